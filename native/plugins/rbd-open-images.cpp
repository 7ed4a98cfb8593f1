// See rbd-open-images.hpp.
#include "rbd-open-images.hpp"

#include <cerrno>
#include <exception>
#include <system_error>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace rbd {

namespace {

// To derive keys from a passphrase takes seconds of the processor's time, and has nothing to do
// with the cluster that timeout= is about. With create= that happens several times.
constexpr unsigned MAX_KEY_SECONDS = 60;

} // namespace

Shared::Shared(const Cluster &cluster, std::string name, std::string snapshot, bool is_readonly)
    : cluster_(cluster), name_(std::move(name)), snapshot_(std::move(snapshot)),
      is_readonly_(is_readonly), timeout_seconds_(cluster.settings().timeout_seconds),
      key_seconds_(cluster.settings().passphrase ? MAX_KEY_SECONDS : 0) {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&changed_, &attributes);
  pthread_condattr_destroy(&attributes);
}

Shared::~Shared() {
  if (opener_.joinable())
    opener_.join();
  pthread_cond_destroy(&changed_);
}

// ---- who comes and goes -------------------------------------------------------------------------

bool Shared::enter() {
  std::unique_lock lock(mutex_);
  const timespec until = patience();
  if (!wait_while(State::CLOSING, lock, until))
    return is_too_late();
  waiting_++;
  if (state_ == State::CLOSED)
    begin_to_open(lock);
  const bool is_settled = wait_while(State::OPENING, lock, until);
  waiting_--;
  if (!is_settled)
    return is_too_late();
  if (state_ != State::OPEN) {
    nbdkit_error("%s", refusal_.words.c_str());
    nbdkit_set_error(refusal_.error);
    return false;
  }
  users_++;
  return true;
}

void Shared::leave() {
  std::unique_lock lock(mutex_);
  if (--users_ == 0 && waiting_ == 0)
    close(lock);
}

bool Shared::is_closed() {
  std::lock_guard lock(mutex_);
  return state_ == State::CLOSED;
}

// ---- waiting ------------------------------------------------------------------------------------

timespec Shared::patience() const {
  timespec until{};
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += static_cast<time_t>(timeout_seconds_) + key_seconds_;
  return until;
}

/// False: there is no more time.
bool Shared::wait_while(State state, std::unique_lock<std::mutex> &lock, const timespec &until) {
  pthread_mutex_t *const mutex = lock.mutex()->native_handle();
  int result = 0;
  while (state_ == state && result == 0)
    result = timeout_seconds_ == 0 ? pthread_cond_wait(&changed_, mutex)
                                   : pthread_cond_timedwait(&changed_, mutex, &until);
  return state_ != state;
}

bool Shared::is_too_late() const {
  const std::string more =
      key_seconds_ == 0 ? "" : " and the " + std::to_string(key_seconds_) + " s for LUKS";
  nbdkit_error("cannot open the image %s: the cluster has not answered within timeout=%u%s",
               cluster_.full_name(name_).c_str(), timeout_seconds_, more.c_str());
  nbdkit_set_error(EIO);
  return false;
}

// ---- the image ----------------------------------------------------------------------------------

void Shared::begin_to_open(std::unique_lock<std::mutex> &lock) {
  state_ = State::OPENING;
  if (timeout_seconds_ == 0) {
    lock.unlock();
    open();
    lock.lock();
    return;
  }
  if (opener_.joinable())
    opener_.join(); // its last attempt has failed, or been closed
  try {
    opener_ = std::thread([this] { open(); });
  } catch (const std::system_error &error) {
    refusal_ = {std::string("cannot start a thread to open an image: ") + error.what(),
                error.code().value()};
    state_ = State::CLOSED;
  }
}

void Shared::open() {
  std::unique_ptr<Image> image;
  Refusal refusal;
  try {
    image = Image::open(cluster_, name_, snapshot_, is_readonly_, refusal);
  } catch (const std::exception &error) {
    refusal = {std::string("rbd: ") + error.what(), ENOMEM};
  }
  std::unique_lock lock(mutex_);
  refusal_ = std::move(refusal);
  image_ = std::move(image);
  state_ = image_ == nullptr ? State::CLOSED : State::OPEN;
  if (image_ != nullptr && waiting_ == 0) // all have given up
    close(lock);
  else
    pthread_cond_broadcast(&changed_);
}

void Shared::close(std::unique_lock<std::mutex> &lock) {
  state_ = State::CLOSING;
  std::unique_ptr<Image> image = std::move(image_);
  lock.unlock();
  image.reset();
  lock.lock();
  state_ = State::CLOSED;
  pthread_cond_broadcast(&changed_);
}

// ---- all of them --------------------------------------------------------------------------------

std::shared_ptr<Shared> OpenImages::find(const Cluster &cluster, const std::string &name,
                                         const std::string &snapshot, bool is_readonly) {
  std::lock_guard lock(mutex_);
  std::erase_if(images_, [](const auto &one) {
    return one.second.use_count() == 1 && one.second->is_closed();
  });
  std::shared_ptr<Shared> &place = images_[(is_readonly ? "r " : "w ") + name + "@" + snapshot];
  if (place == nullptr)
    place = std::make_shared<Shared>(cluster, name, snapshot, is_readonly);
  return place;
}

std::optional<Use> OpenImages::open(const Cluster &cluster, const std::string &name,
                                    const std::string &snapshot, bool is_readonly) {
  auto shared = find(cluster, name, snapshot, is_readonly);
  if (!shared->enter())
    return std::nullopt;
  return Use(std::move(shared));
}

} // namespace rbd
