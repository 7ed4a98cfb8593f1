// See runtime.hpp.
#include "schedule/runtime.hpp"

#include <thread>

#include "base/thread_pool.hpp"

namespace asyncnbd::schedule {

Runtime::Runtime(const base::Clock &clock, base::Threads &threads, Poller &poller, unsigned cores)
    : clock(clock), threads(threads), timers(clock, threads), slow_calls(threads),
      spin_limit(cores), idle_poller(clock, threads, slow_calls, spin_limit, poller, cores),
      stall_guard(clock, timers) {}

namespace {

struct System {
  base::SystemClock clock;
  base::ThreadPool threads;
  EpollPoller poller;
  Runtime runtime{clock, threads, poller, std::thread::hardware_concurrency()};
};

} // namespace

Runtime &Runtime::make_for_system() {
  return (new System)->runtime;
}

} // namespace asyncnbd::schedule
