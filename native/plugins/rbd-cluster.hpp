// A connection to a Ceph cluster and to one pool of it.
#ifndef ASYNCNBD_RBD_CLUSTER_HPP
#define ASYNCNBD_RBD_CLUSTER_HPP

#include <optional>
#include <string>

#include "rbd-library.hpp"

namespace rbd {

struct Settings {
  std::string pool;
  std::string name_space;
  std::string image; // "": the client names one
  std::string snapshot;
  std::string conf; // "": where Ceph looks for it
  std::string cluster = "ceph";
  std::string id = "admin";
  std::string keyring;
  std::optional<bool> cache;
  std::optional<uint64_t> create_bytes;
  std::optional<std::string> passphrase; // for LUKS
  bool exclusive = false;
  unsigned connect_timeout_seconds = 30;
  unsigned timeout_seconds = 0; // for each request; 0: wait for the cluster
};

class Cluster {
public:
  explicit Cluster(const Settings &settings) : settings_(settings) {}
  ~Cluster();
  Cluster(const Cluster &) = delete;
  Cluster &operator=(const Cluster &) = delete;

  /// False, after nbdkit_error(), on failure. Waits for the cluster up to the time limit.
  bool connect(const Library &library);

  const Library &library() const { return *library_; }
  const Settings &settings() const { return settings_; }
  rados_ioctx_t pool() const { return pool_; }

  /// "POOL/NAMESPACE/NAME", for messages.
  std::string full_name(const std::string &name) const;

private:
  bool configure();
  bool tune();
  bool set(const char *option, const std::string &value);
  bool explain(int result) const;

  const Settings &settings_;
  const Library *library_ = nullptr;
  rados_t cluster_ = nullptr;
  rados_ioctx_t pool_ = nullptr;
};

} // namespace rbd

#endif
