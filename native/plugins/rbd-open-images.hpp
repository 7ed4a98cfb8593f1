// The images that clients have open: one librbd handle for all clients of an image.
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

/// An image by its name and mode, shared by all clients that have it open. librbd passes an
/// exclusive lock between handles of one image as between machines: with a handle for each client,
/// they would take it from each other with every write.
class Shared {
public:
  /// Waits for the end of earlier use, when librbd writes its cache. False: the image cannot be
  /// opened.
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
  /// Nothing on failure, after nbdkit_error() and nbdkit_set_error(). Waits for the cluster.
  std::optional<Use> open(const Cluster &cluster, const std::string &name,
                          const std::string &snapshot, bool is_readonly);

private:
  std::shared_ptr<Shared> of(const std::string &key);

  std::mutex mutex_; // guards the map; held only for lookups
  std::map<std::string, std::weak_ptr<Shared>> images_;
};

} // namespace rbd

#endif
