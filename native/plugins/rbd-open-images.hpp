// The images that clients have open: one handle of librbd's for all clients of an image.
#ifndef ASYNCNBD_RBD_OPEN_IMAGES_HPP
#define ASYNCNBD_RBD_OPEN_IMAGES_HPP

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "rbd-image.hpp"

namespace rbd {

/// An image by its name and how it is opened, which all clients that have it open share. librbd
/// passes an exclusive lock between handles of one image as between machines, so that with a handle
/// for each client they would take it from each other with every write.
class Shared {
public:
  /// Waits for an end of earlier use: what librbd caches is written then. False: there is none.
  bool enter(const Cluster &cluster, const std::string &name, const std::string &snapshot,
             bool is_readonly);
  void leave();
  /// Between enter() and leave().
  Image &image() const { return *image_; }

private:
  std::mutex mutex_;
  std::unique_ptr<Image> image_;
  unsigned users_ = 0;
};

/// The use of a shared image.
class Use {
public:
  explicit Use(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  ~Use() {
    if (shared_ != nullptr)
      shared_->leave();
  }
  Use(Use &&) = default;
  Use &operator=(Use &&) = default;
  Image *operator->() const { return &shared_->image(); }

private:
  std::shared_ptr<Shared> shared_;
};

class OpenImages {
public:
  /// Nothing: nbdkit_error() and nbdkit_set_error() have been called. Waits for the cluster.
  std::optional<Use> open(const Cluster &cluster, const std::string &name,
                          const std::string &snapshot, bool is_readonly);

private:
  std::shared_ptr<Shared> of(const std::string &key);

  std::mutex mutex_; // of the map, for no longer than a look
  std::map<std::string, std::weak_ptr<Shared>> images_;
};

} // namespace rbd

#endif
