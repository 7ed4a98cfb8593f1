// An estimate of how long a backend's calls take: so long that the leader hands over before each,
// or so short that one thread may make the calls of many connections.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.hpp"

namespace asyncnbd::schedule {

// Any thread.
class CallLatency {
public:
  explicit CallLatency(const base::Clock &clock) : clock_(clock) {}

  // After some slow calls in a row, until there have been as many quick ones.
  bool is_slow() const { return is_slow_.load(std::memory_order_relaxed); }

  // Of late, calls have returned at once on average: a thread that makes them for many connections
  // keeps none waiting.
  bool is_quick() const { return is_quick_.load(std::memory_order_relaxed); }

  // A request that needs no call.
  void count_none() {
    if (!is_quick())
      count(base::Duration::zero());
  }

  // A call, which may not be timed, is in progress and slow already.
  void count_slow_call();

  // Around a call. As long as calls are quick, only some are timed: reading the clock is not free.
  class Timed {
  public:
    explicit Timed(CallLatency &latency);
    ~Timed();
    Timed(const Timed &) = delete;
    Timed &operator=(const Timed &) = delete;

  private:
    CallLatency *latency_; // nullptr: not this time
    base::Time begin_;
  };

private:
  void count(base::Duration duration);

  const base::Clock &clock_;
  // Estimates: each pairs with nothing, and a thread that reads an old value decides a little
  // later.
  std::atomic<unsigned> calls_{0};
  std::atomic<int> slow_calls_{0}; // how many more than quick ones, of late
  std::atomic<bool> is_slow_{false};
  std::atomic<unsigned> timed_calls_{0};
  std::atomic<int64_t> mean_ns_{0}; // of recent calls, the latest count most
  std::atomic<bool> is_quick_{false};
};

} // namespace asyncnbd::schedule
