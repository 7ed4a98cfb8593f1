// See rbd-open-images.hpp.
#include "rbd-open-images.hpp"

#include <cerrno>
#include <exception>
#include <new>
#include <system_error>
#include <vector>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace rbd {

Shared::Shared(std::shared_ptr<const Cluster> cluster, std::string name, std::string snapshot,
               bool is_readonly)
    : cluster_(std::move(cluster)), name_(std::move(name)), snapshot_(std::move(snapshot)),
      is_readonly_(is_readonly) {}

// ---- clients that enter and leave ---------------------------------------------------------------

std::optional<Use> Shared::enter(const Limit &limit, Refusal &refusal) {
  const Patience patience = limit.patience();
  std::unique_lock lock(mutex_);
  if (!wait_while(State::CLOSING, lock, patience)) {
    refusal = limit.too_late(cannot("open"));
    return std::nullopt;
  }
  waiting_++;
  if (state_ == State::CLOSED)
    begin_to_open(lock, patience);
  const bool is_settled = wait_while(State::OPENING, lock, patience);
  waiting_--;
  if (state_ == State::OPEN) {
    users_++;
    return Use(shared_from_this());
  }
  refusal = is_settled ? refusal_ : limit.too_late(cannot("open"));
  return std::nullopt;
}

void Shared::leave() {
  std::unique_lock lock(mutex_);
  if (--users_ == 0 && waiting_ == 0)
    begin_to_close(lock);
}

bool Shared::is_closed() {
  std::lock_guard lock(mutex_);
  return state_ == State::CLOSED;
}

void Shared::wait_until_closed() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, Patience(0), [&] { return state_ == State::CLOSED; });
}

// ---- waiting ------------------------------------------------------------------------------------

/// False: the time is over.
bool Shared::wait_while(State state, std::unique_lock<std::mutex> &lock, const Patience &patience) {
  return changed_.wait_for(lock, patience, [&] { return state_ != state; });
}

/// "cannot WHAT the image NAME".
std::string Shared::cannot(const char *what) const {
  return "cannot " + std::string(what) + " the image " + cluster_->full_name(name_);
}

// ---- the image ----------------------------------------------------------------------------------

void Shared::begin_to_open(std::unique_lock<std::mutex> &lock, const Patience &patience) {
  state_ = State::OPENING;
  if (!patience.is_limited()) {
    lock.unlock();
    open();
    lock.lock();
    return;
  }
  try {
    start_thread([self = shared_from_this()] { self->open(); });
  } catch (const std::system_error &error) {
    refusal_ = {std::string("cannot start a thread to open an image: ") + error.what(),
                error.code().value()};
    state_ = State::CLOSED;
  } catch (const std::bad_alloc &) {
    refusal_ = {"no memory to open an image", ENOMEM};
    state_ = State::CLOSED;
  }
}

void Shared::open() {
  std::unique_ptr<Image> image;
  Refusal refusal;
  try {
    image = Image::open(*cluster_, name_, snapshot_, is_readonly_, refusal);
  } catch (const std::exception &error) {
    refusal = {std::string("rbd: ") + error.what(), ENOMEM};
  }
  std::unique_lock lock(mutex_);
  refusal_ = std::move(refusal);
  image_ = std::move(image);
  state_ = image_ == nullptr ? State::CLOSED : State::OPEN;
  if (image_ != nullptr && waiting_ == 0) // all clients have given up
    close(lock);
  else
    changed_.broadcast();
}

/// Waits until the image is closed, at most for the time limit. May return with the lock released.
void Shared::begin_to_close(std::unique_lock<std::mutex> &lock) {
  const Limit limit = cluster_->settings().limit();
  const Patience patience = limit.patience();
  if (patience.is_limited()) {
    try {
      start_thread([self = shared_from_this()] {
        std::unique_lock lock(self->mutex_);
        self->close(lock);
      });
      state_ = State::CLOSING;
      if (!wait_while(State::CLOSING, lock, patience)) {
        lock.unlock(); // logging may take a while
        nbdkit_error("%s", limit.too_late(cannot("close")).words.c_str());
      }
      return;
    } catch (const std::exception &) { // no thread, or no memory for one: close it on this one
    }
  }
  close(lock);
}

void Shared::close(std::unique_lock<std::mutex> &lock) {
  state_ = State::CLOSING;
  std::unique_ptr<Image> image = std::move(image_);
  lock.unlock();
  image.reset();
  lock.lock();
  state_ = State::CLOSED;
  changed_.broadcast();
}

int64_t Shared::size_bytes(Refusal &refusal) {
  struct Answer {
    int64_t bytes;
    Refusal refusal;
  };
  {
    std::lock_guard lock(mutex_);
    users_++; // for the errand, which goes on if its caller gives up
  }
  auto use = std::make_shared<Use>(Use(shared_from_this()));
  const Limit limit = cluster_->settings().limit();
  std::optional<Answer> answer = sizes_.run<Answer>(limit.patience(), [use = std::move(use)] {
    Answer given{};
    given.bytes = (*use)->size_bytes(given.refusal);
    return given;
  });
  refusal = answer ? std::move(answer->refusal) : limit.too_late(cannot("get the size of"));
  return answer ? answer->bytes : -1;
}

// ---- all of them --------------------------------------------------------------------------------

std::shared_ptr<Shared> OpenImages::find(const std::shared_ptr<const Cluster> &cluster,
                                         const std::string &name, const std::string &snapshot,
                                         bool is_readonly) {
  std::lock_guard lock(mutex_);
  std::erase_if(images_, [](const auto &one) {
    return one.second.use_count() == 1 && one.second->is_closed();
  });
  std::shared_ptr<Shared> &place = images_[(is_readonly ? "r " : "w ") + name + "@" + snapshot];
  if (place == nullptr)
    place = std::make_shared<Shared>(cluster, name, snapshot, is_readonly);
  return place;
}

std::optional<Use> OpenImages::open(const std::shared_ptr<const Cluster> &cluster,
                                    const std::string &name, const std::string &snapshot,
                                    bool is_readonly, const Limit &limit, Refusal &refusal) {
  return find(cluster, name, snapshot, is_readonly)->enter(limit, refusal);
}

void OpenImages::wait_until_closed() {
  std::vector<std::shared_ptr<Shared>> images;
  {
    std::lock_guard lock(mutex_);
    for (const auto &[name, image] : images_)
      images.push_back(image);
  }
  for (const std::shared_ptr<Shared> &image : images)
    image->wait_until_closed();
}

} // namespace rbd
