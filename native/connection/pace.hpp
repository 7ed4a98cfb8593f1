// Whether the calls of a backend take so long that each is worth a thread from the start.
#pragma once

#include <atomic>
#include <chrono>

namespace asyncnbd::connection {

// Any thread.
class Pace {
public:
  using Clock = std::chrono::steady_clock;

  // Slow calls one after the other make it slow, quick ones quick again.
  bool is_slow() const { return is_slow_.load(std::memory_order_relaxed); }

  // Calls return at once: a thread that makes them for many connections keeps none waiting.
  bool is_quick() const { return is_quick_.load(std::memory_order_relaxed); }

  // A call that was not timed has been seen to be slow.
  void count_stuck();

  // Around a call. As long as calls are quick, only some are timed: reading the clock is not free.
  class Timed {
  public:
    explicit Timed(Pace &pace);
    ~Timed();
    Timed(const Timed &) = delete;
    Timed &operator=(const Timed &) = delete;

  private:
    Pace *pace_; // nullptr: not this time
    Clock::time_point begin_;
  };

private:
  void count(Clock::duration duration);

  std::atomic<unsigned> calls_{0};
  std::atomic<int> slow_calls_{0}; // more than quick ones, of late
  std::atomic<bool> is_slow_{false};
  std::atomic<int> unquick_calls_{0}; // as slow_calls_
  std::atomic<bool> is_quick_{true};
};

} // namespace asyncnbd::connection
