// The images that clients have open: one librbd handle for all clients of an image.
#ifndef ASYNCNBD_RBD_OPEN_IMAGES_HPP
#define ASYNCNBD_RBD_OPEN_IMAGES_HPP

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "rbd-image.hpp"
#include "rbd-waiting.hpp"

namespace rbd {

class Use;

/// An image by its name and mode, shared by all clients that have it open. librbd passes an
/// image's exclusive lock between handles even within a process: if each client had its own handle,
/// they would take the lock from each other with every write.
///
/// With timeout=, threads of their own wait for the cluster; clients wait for these threads, and
/// may give up.
class Shared : public std::enable_shared_from_this<Shared> {
public:
  Shared(std::shared_ptr<const Cluster> cluster, std::string name, std::string snapshot,
         bool is_readonly);
  Shared(const Shared &) = delete;
  Shared &operator=(const Shared &) = delete;

  /// Waits until the image of earlier clients is closed, for which librbd writes its cache, and
  /// until the image is open. No value on failure: see `refusal`.
  std::optional<Use> enter(const Limit &limit, Refusal &refusal);

  bool is_closed();
  /// Waits for the cluster without a limit.
  void wait_until_closed();

private:
  friend class Use;

  enum class State { CLOSED, OPENING, OPEN, CLOSING };

  std::string cannot(const char *what) const;
  bool wait_while(State state, std::unique_lock<std::mutex> &lock, const Patience &patience);
  void begin_to_open(std::unique_lock<std::mutex> &lock, const Patience &patience);
  void open();
  void leave();
  void begin_to_close(std::unique_lock<std::mutex> &lock);
  void close(std::unique_lock<std::mutex> &lock);
  int64_t size_bytes(Refusal &refusal);

  const std::shared_ptr<const Cluster> cluster_;
  const std::string name_;
  const std::string snapshot_;
  const bool is_readonly_;
  Errands sizes_; // asks for the image's size

  std::mutex mutex_;
  Condition changed_;
  State state_ = State::CLOSED;
  Refusal refusal_; // why it could not be opened
  std::unique_ptr<Image> image_;
  unsigned waiting_ = 0; // to enter
  unsigned users_ = 0;
};

/// The use of a shared image.
class Use {
public:
  ~Use() {
    if (shared_ != nullptr)
      shared_->leave();
  }
  Use(Use &&) = default;
  Use &operator=(Use &&other) noexcept {
    std::swap(shared_, other.shared_); // `other` ends the use of what this one had
    return *this;
  }
  Image *operator->() const { return shared_->image_.get(); }

  /// As Image::size_bytes(), but waits no longer than the time limit.
  int64_t size_bytes(Refusal &refusal) const { return shared_->size_bytes(refusal); }

private:
  friend class Shared;

  /// `users_` must count it already.
  explicit Use(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  std::shared_ptr<Shared> shared_;
};

class OpenImages {
public:
  /// No value on failure: see `refusal`. Waits for the cluster.
  std::optional<Use> open(const std::shared_ptr<const Cluster> &cluster, const std::string &name,
                          const std::string &snapshot, bool is_readonly, const Limit &limit,
                          Refusal &refusal);
  /// After the last client: waits for the cluster to close the images.
  void wait_until_closed();

private:
  std::shared_ptr<Shared> find(const std::shared_ptr<const Cluster> &cluster,
                               const std::string &name, const std::string &snapshot,
                               bool is_readonly);

  std::mutex mutex_; // guards the map; held only for lookups
  std::map<std::string, std::shared_ptr<Shared>> images_;
};

} // namespace rbd

#endif
