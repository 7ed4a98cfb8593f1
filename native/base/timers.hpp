// Calls timers when they are due: one thread for all of them, which sleeps until the first is.
#pragma once

#include <cstddef>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "base/mutex.hpp"
#include "base/threads.hpp"

namespace asyncnbd::base {

class Timers;

// Is called once each time that it is set. Derive from it; cancel it before the derived part is
// destroyed.
class Timer {
public:
  Timer() = default;
  virtual ~Timer() = default;
  Timer(const Timer &) = delete;
  Timer &operator=(const Timer &) = delete;

private:
  // On the timers' thread: must neither block nor take long, and may set or cancel any timer.
  virtual void on_due() = 0;

  friend class Timers;
  static constexpr size_t NOT_SET = SIZE_MAX;
  Time due_{};
  size_t place_ = NOT_SET; // in the heap
};

// A binary heap: setting or cancelling one takes few comparisons, even if there are a million. All
// functions: any thread, unless they say more.
class Timers {
public:
  // Nothing is started before the first timer is set.
  Timers(const Clock &clock, Threads &threads) : clock_(clock), threads_(threads) {}
  Timers(const Timers &) = delete;
  Timers &operator=(const Timers &) = delete;

  // False if the system gives no thread to wait: then none is set, either.
  bool ensure_started();

  // Replaces the time that it was set to before. False if the system gives no thread to wait for
  // it: then it is not set.
  bool set(Timer &timer, Time due);

  // When it returns, the timer is not set and on_due does not run, unless that is what calls it.
  void cancel(Timer &timer);

  // Calls those that are due. Returns when the next one is; nullopt if none is set. By the thread
  // of the timers, or by a simulation, whose Threads do not run what they are given.
  std::optional<Time> run_due();

  // How many are set.
  size_t size() const;

private:
  bool is_started_locked();
  void work();
  void put(size_t place, Timer &timer);
  void sift_up(size_t place, Timer &timer);
  void sift_down(size_t place, Timer &timer);
  void insert(Timer &timer, Time due);
  void remove(Timer &timer);

  const Clock &clock_;
  Threads &threads_;
  mutable Mutex<LockRank::timers> mutex_; // guards the rest, and each timer's place and time
  Condition wake_;
  Condition called_;
  std::vector<Timer *> heap_;    // the parent of i, at (i - 1) / 2, is not due later
  Timer *running_ = nullptr;     // is called
  std::thread::id running_on_{}; // by this thread
  bool is_started_ = false;
};

} // namespace asyncnbd::base
