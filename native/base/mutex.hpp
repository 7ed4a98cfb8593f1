// Mutexes that have a rank in the order of locks, which builds for tests check.
#pragma once

#include <condition_variable>
#include <mutex>

#include "base/lock_order.hpp"

namespace asyncnbd::base {

#ifdef ASYNCNBD_CHECK_LOCKS

// For std::lock_guard and std::unique_lock.
template <LockRank rank> class Mutex {
public:
  void lock() {
    before_lock(rank);
    mutex_.lock();
  }
  // In the order too, though it never waits: what is taken with it held may.
  bool try_lock() {
    before_lock(rank);
    const bool is_locked = mutex_.try_lock();
    if (!is_locked)
      before_unlock(rank);
    return is_locked;
  }
  void unlock() {
    before_unlock(rank);
    mutex_.unlock();
  }

private:
  std::mutex mutex_;
};

class Condition {
public:
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

  template <typename Lock, typename... Until> void wait(Lock &lock, Until... until) {
    before_wait();
    condition_.wait(lock, until...);
  }
  template <typename Lock, typename Duration, typename... Until>
  auto wait_for(Lock &lock, const Duration &duration, Until... until) {
    before_wait();
    return condition_.wait_for(lock, duration, until...);
  }
  template <typename Lock, typename Time> auto wait_until(Lock &lock, const Time &time) {
    before_wait();
    return condition_.wait_until(lock, time);
  }

private:
  std::condition_variable_any condition_;
};

#else

template <LockRank> using Mutex = std::mutex;
using Condition = std::condition_variable;

#endif

} // namespace asyncnbd::base
