// One server's use of a cluster: from its parameters to its last image.
#ifndef ASYNCNBD_RBD_INSTANCE_HPP
#define ASYNCNBD_RBD_INSTANCE_HPP

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rbd-cluster.hpp"
#include "rbd-open-images.hpp"
#include "rbd-waiting.hpp"

namespace rbd {

/// Nothing here waits for the cluster longer than the parameters say, except for drain().
class Instance {
public:
  Settings &settings() { return *settings_; }

  /// Call it after the last parameter, on the thread that may change the environment: reads Ceph's
  /// configuration. False on failure: see `refusal`.
  bool configure(const Library &library, Refusal &refusal);
  /// After that: connects and opens the image, so that errors are reported before a client
  /// connects. False on failure: see `refusal`.
  bool start(Refusal &refusal);

  /// The names of the pool's images. No value on failure: see `refusal`.
  std::optional<std::vector<std::string>> list_images(Refusal &refusal) {
    return list_images(settings_->limit(), refusal);
  }

  /// No value on failure: see `refusal`.
  std::optional<Use> open(const std::string &name, const std::string &snapshot, bool is_readonly,
                          Refusal &refusal);

  /// Call it after the last client: waits until librbd has written its cache and closed the images.
  void drain();

  /// Waits for the cluster for a few seconds at most. Usually drain() has left nothing to wait for,
  /// but a start may fail after the image is locked, or because the cluster does not answer.
  static void end(std::unique_ptr<Instance> instance);

private:
  bool connect(Refusal &refusal);
  bool open_first(Refusal &refusal);
  std::optional<std::vector<std::string>> list_images(const Limit &limit, Refusal &refusal);

  // Threads that wait for the cluster share these.
  const std::shared_ptr<Settings> settings_ = std::make_shared<Settings>();
  std::shared_ptr<Cluster> configured_; // until the start
  std::shared_ptr<const Cluster> cluster_;
  const std::shared_ptr<OpenImages> images_ = std::make_shared<OpenImages>();
  Errands listings_;
  std::optional<Use> locked_; // the image, if it stays locked while nobody has it open
};

} // namespace rbd

#endif
