// What time it is: the system's clock, or a simulation's.
#pragma once

#include <chrono>
#include <cstdint>

namespace asyncnbd::base {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

// A time as a number, to be kept in an atomic and compared with others.
inline int64_t in_ms(Time time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

class Clock {
public:
  virtual ~Clock() = default;
  // Never earlier than at the last call. Any thread.
  virtual Time now() const = 0;
};

class SystemClock final : public Clock {
public:
  Time now() const override { return std::chrono::steady_clock::now(); }
};

} // namespace asyncnbd::base
