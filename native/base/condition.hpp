// To wait for a change of what a mutex guards.
#pragma once

#include <chrono>
#include <pthread.h>

#include "base/clock.hpp"

namespace asyncnbd::base {

// Like C++'s, for the mutexes of mutex.hpp, but of the system's own calls: GCC 12's waits by a
// function of libstdc++ (GLIBCXX_3.4.30) that is missing on systems where the published addon runs.
// Waits may end without a reason, so callers look again at what they wait for. Pairs with the
// mutex: who changes what is waited for does so with it held, and notifies then or later.
class Condition {
public:
  Condition();
  ~Condition();
  Condition(const Condition &) = delete;
  Condition &operator=(const Condition &) = delete;

  void notify_one() { pthread_cond_signal(&condition_); }
  void notify_all() { pthread_cond_broadcast(&condition_); }

  // The lock is a std::unique_lock that has its mutex.
  template <typename Lock> void wait(Lock &lock) {
    check(lock);
    wait_with(lock.mutex()->native_handle());
  }
  template <typename Lock, typename Until> void wait(Lock &lock, Until until) {
    while (!until())
      wait(lock);
  }
  // False: the time is over.
  template <typename Lock> bool wait_until(Lock &lock, Time end) {
    check(lock);
    return wait_with(lock.mutex()->native_handle(), end);
  }
  // What `until` said last.
  template <typename Lock, typename Until>
  bool wait_for(Lock &lock, Duration longest, Until until) {
    const Time end = std::chrono::steady_clock::now() + longest;
    while (!until())
      if (!wait_until(lock, end))
        return until();
    return true;
  }

private:
  // Mutexes that know their rank look whether the wait keeps the order of locks.
  template <typename Lock> static void check(const Lock &lock) {
    if constexpr (requires { lock.mutex()->before_wait(); })
      lock.mutex()->before_wait();
  }
  void wait_with(pthread_mutex_t *mutex);
  bool wait_with(pthread_mutex_t *mutex, Time end);

  pthread_cond_t condition_;
};

} // namespace asyncnbd::base
