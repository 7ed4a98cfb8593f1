// The images that clients have open: one librbd handle for all clients of an image.
#ifndef ASYNCNBD_RBD_OPEN_IMAGES_HPP
#define ASYNCNBD_RBD_OPEN_IMAGES_HPP

#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <string>
#include <thread>
#include <utility>

#include "rbd-image.hpp"

namespace rbd {

/// An image by its name and mode, shared by all clients that have it open. librbd passes an
/// exclusive lock between handles of one image as between machines: with a handle for each client,
/// they would take it from each other with every write.
class Shared {
public:
  Shared(const Cluster &cluster, std::string name, std::string snapshot, bool is_readonly);
  /// Waits for the cluster, if it still is to open the image.
  ~Shared();
  Shared(const Shared &) = delete;
  Shared &operator=(const Shared &) = delete;

  /// Waits for the end of earlier use, when librbd writes its cache, and for the cluster, up to the
  /// time limit. False on failure, after nbdkit_error() and nbdkit_set_error().
  bool enter();
  void leave();
  /// Between enter() and leave().
  Image &image() const { return *image_; }

  bool is_closed();

private:
  enum class State { CLOSED, OPENING, OPEN, CLOSING };

  bool wait_while(State state, std::unique_lock<std::mutex> &lock, const timespec &until);
  void begin_to_open(std::unique_lock<std::mutex> &lock);
  void open();
  void close(std::unique_lock<std::mutex> &lock);
  timespec patience() const;
  bool is_too_late() const;

  const Cluster &cluster_;
  const std::string name_;
  const std::string snapshot_;
  const bool is_readonly_;
  const unsigned timeout_seconds_; // 0: none
  const unsigned key_seconds_;     // more time, for LUKS
  std::thread opener_;             // opens the image where clients do not wait for that for ever

  std::mutex mutex_;
  pthread_cond_t changed_; // by CLOCK_MONOTONIC
  State state_ = State::CLOSED;
  Refusal refusal_; // why it could not be opened
  std::unique_ptr<Image> image_;
  unsigned waiting_ = 0; // to enter
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
  /// Before the cluster ends, without clients.
  void end() { images_.clear(); }

private:
  std::shared_ptr<Shared> find(const Cluster &cluster, const std::string &name,
                               const std::string &snapshot, bool is_readonly);

  std::mutex mutex_; // guards the map; held only for lookups
  std::map<std::string, std::shared_ptr<Shared>> images_;
};

} // namespace rbd

#endif
