// What backends and layers use of the process.
#pragma once

#include "base/clock.hpp"
#include "base/threads.hpp"
#include "base/timers.hpp"

namespace asyncnbd::backend {

// Owned by the runtime, which outlives them all.
struct Resources {
  const base::Clock &clock;
  base::Timers &timers;
  base::Threads &threads;
};

} // namespace asyncnbd::backend
