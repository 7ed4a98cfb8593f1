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
};

} // namespace asyncnbd::connection
