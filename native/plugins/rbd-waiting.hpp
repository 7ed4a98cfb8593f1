// Time limits for calls of librbd that return only when the cluster answers. The call runs on a
// thread of its own; its caller gives up after a time, and the call goes on with what it uses. As
// such a thread may outlive the server, this plugin is linked so that it is never unloaded.
#ifndef ASYNCNBD_RBD_WAITING_HPP
#define ASYNCNBD_RBD_WAITING_HPP

#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <utility>

namespace rbd {

/// How long a caller waits, from the construction on.
class Patience {
public:
  /// 0: for ever.
  explicit Patience(unsigned seconds);

  bool is_limited() const { return is_limited_; }
  const timespec &until() const { return until_; } // by CLOCK_MONOTONIC

private:
  bool is_limited_;
  timespec until_{};
};

/// A condition variable by CLOCK_MONOTONIC. That of C++ needs a libstdc++ too new for some systems.
class Condition {
public:
  Condition();
  ~Condition() { pthread_cond_destroy(&condition_); }
  Condition(const Condition &) = delete;
  Condition &operator=(const Condition &) = delete;

  void signal() { pthread_cond_signal(&condition_); }
  void broadcast() { pthread_cond_broadcast(&condition_); }

  void wait(std::unique_lock<std::mutex> &lock) {
    pthread_cond_wait(&condition_, lock.mutex()->native_handle());
  }
  /// Waits until this time at the latest, by CLOCK_MONOTONIC. False: the time has come.
  bool wait_until(std::unique_lock<std::mutex> &lock, const timespec &until) {
    return pthread_cond_timedwait(&condition_, lock.mutex()->native_handle(), &until) == 0;
  }
  /// Waits until `is_so` returns true. False: the time is over.
  template <typename IsSo>
  bool wait_for(std::unique_lock<std::mutex> &lock, const Patience &patience, IsSo is_so) {
    bool is_time_left = true;
    while (!is_so() && is_time_left)
      if (patience.is_limited())
        is_time_left = wait_until(lock, patience.until());
      else
        wait(lock);
    return is_so();
  }

private:
  pthread_cond_t condition_;
};

/// Does `work` on a thread of its own that nobody waits for: `work` must own all that it uses.
/// Throws std::system_error if no thread can be started.
void start_thread(std::function<void()> work);

/// Runs calls of one kind ("errands"), one at a time: if the cluster does not answer, callers that
/// give up leave one thread behind, not one each.
class Errands {
public:
  /// The errand's result; no value if it, or the one before it, is not done in time, and goes on.
  /// `errand` must own all that it uses. Throws what it throws, and std::system_error if no thread
  /// can be started.
  template <typename Result>
  std::optional<Result> run(const Patience &patience, std::function<Result()> errand) {
    if (!patience.is_limited())
      return errand();
    auto result = std::make_shared<std::optional<Result>>();
    // Frees what the errand owns before its caller gets the result.
    const bool is_done = run_in_time(patience, [result, errand = std::move(errand)]() mutable {
      result->emplace(std::exchange(errand, nullptr)());
    });
    return is_done ? std::move(*result) : std::nullopt;
  }

private:
  struct State {
    std::mutex mutex;
    Condition changed;
    bool is_busy = false;
  };

  bool run_in_time(const Patience &patience, std::function<void()> errand);

  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

} // namespace rbd

#endif
