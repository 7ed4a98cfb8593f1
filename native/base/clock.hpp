// What time it is, which a simulation decides.
#pragma once

#include <chrono>

namespace asyncnbd::base {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

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
