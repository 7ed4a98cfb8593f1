// Mutexes that have a rank in the order of locks, which builds for tests check.
#pragma once

#include <mutex>

#include "base/condition.hpp"
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

  // For Condition. A wait gives the mutex back and takes it again; the thread, which sleeps
  // meanwhile, is taken to hold it all the time.
  void before_wait() const { base::before_wait(rank); }
  std::mutex::native_handle_type native_handle() { return mutex_.native_handle(); }

private:
  std::mutex mutex_;
};

#else

template <LockRank> using Mutex = std::mutex;

#endif

} // namespace asyncnbd::base
