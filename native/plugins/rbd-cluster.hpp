// A connection to a Ceph cluster and to one pool of it.
#ifndef ASYNCNBD_RBD_CLUSTER_HPP
#define ASYNCNBD_RBD_CLUSTER_HPP

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "rbd-errors.hpp"
#include "rbd-library.hpp"
#include "rbd-waiting.hpp"

namespace rbd {

/// How long the cluster may take for an operation.
struct Limit {
  const char *parameter;    // sets it
  unsigned seconds;         // 0: for ever
  unsigned key_seconds = 0; // in addition, to derive keys for LUKS

  /// For the sum of both, or for `seconds` alone if the sum overflows.
  Patience patience() const {
    return Patience(seconds == 0 ? 0 : std::max(seconds, seconds + key_seconds));
  }
  /// The error when the time is over. `cannot` begins its message: "cannot open …".
  Refusal too_late(const std::string &cannot) const;
};

constexpr Limit FOR_EVER{"", 0};

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

  Limit limit() const { return {"timeout", timeout_seconds}; }
  Limit limit_to_open() const;
  /// For opening or listing right after the connection is made.
  Limit limit_at_start() const;
};

class Cluster {
public:
  /// Reads Ceph's configuration, from files and from the environment. Call it on the thread that
  /// may change the environment. Null on failure: see `refusal`.
  static std::shared_ptr<Cluster>
  configured(const Library &library, std::shared_ptr<const Settings> settings, Refusal &refusal);
  /// Once, before anything else. Waits for the cluster, possibly longer than connect-timeout=.
  /// False on failure: see `refusal`.
  bool connect(Refusal &refusal);
  ~Cluster();
  Cluster(const Cluster &) = delete;
  Cluster &operator=(const Cluster &) = delete;

  const Library &library() const { return library_; }
  const Settings &settings() const { return *settings_; }
  rados_ioctx_t pool() const { return pool_; }

  /// "POOL/NAMESPACE/NAME", for messages.
  std::string full_name(const std::string &name) const;

private:
  Cluster(const Library &library, std::shared_ptr<const Settings> settings)
      : library_(library), settings_(std::move(settings)) {}
  bool create(Refusal &refusal);
  bool configure(Refusal &refusal);
  bool tune(Refusal &refusal);
  bool set(const char *option, const std::string &value, Refusal &refusal);
  Refusal explain(int result) const;
  bool open_pool(Refusal &refusal);

  const Library &library_;
  const std::shared_ptr<const Settings> settings_;
  rados_t cluster_ = nullptr;
  rados_ioctx_t pool_ = nullptr;
};

/// The error when no monitor has answered within connect-timeout=.
Refusal no_monitor(const Settings &settings);

} // namespace rbd

#endif
