// What all servers of a process share: the clock, threads, timers, and what decides which thread
// serves which connection.
#pragma once

#include "base/clock.hpp"
#include "base/threads.hpp"
#include "base/timers.hpp"
#include "schedule/idle_poller.hpp"
#include "schedule/poller.hpp"
#include "schedule/slow_call_detector.hpp"
#include "schedule/spinner.hpp"
#include "schedule/stall_guard.hpp"

namespace asyncnbd::schedule {

// Made once, and passed to whoever needs a part of it. Its threads do not end, so that it is never
// destroyed, except in a simulation, which has none.
class Runtime {
public:
  Runtime(const base::Clock &clock, base::Threads &threads, Poller &poller, unsigned cores);
  Runtime(const Runtime &) = delete;
  Runtime &operator=(const Runtime &) = delete;

  // With the system's clock, threads and epoll.
  static Runtime &make_for_system();

  const base::Clock &clock;
  base::Threads &threads;
  base::Timers timers;
  SlowCallDetector slow_calls;
  SpinLimit spin_limit;
  IdlePoller idle_poller;
  StallGuard stall_guard;
};

} // namespace asyncnbd::schedule
