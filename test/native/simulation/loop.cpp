// See loop.hpp.
#include "loop.hpp"

#include <algorithm>
#include <poll.h>
#include <utility>

#include "schedule/poller.hpp"

namespace simulation {

using namespace asyncnbd;

namespace {

constexpr int64_t NS_PER_MS = 1'000'000;
constexpr int64_t QUIET_NS = schedule::LoopPoller::QUIET_MS * NS_PER_MS;
// However many clients it serves, in however small pieces: less than they are patient for.
constexpr uint64_t LONGEST_TASK_NS = NS_PER_MS;

} // namespace

Loop::Loop(const Plan &plan, const base::Clock &clock) : plan_(plan) {
  auto epoll = std::make_unique<schedule::EpollPoller>();
  if (!plan.has_loop || !epoll->open())
    return;
  epoll_fd_ = epoll->fd();
  poller_ = std::make_shared<schedule::LoopPoller>(clock, std::move(epoll));
}

void Loop::start() {
  if (poller_ == nullptr)
    return;
  is_running_ = true;
  start_fiber("loop", [this] {
    run();
    is_running_ = false;
    look_at_waits();
  });
}

void Loop::run() {
  Random &random = random_of_run();
  const int64_t ends_at_ns =
      plan_.loop_ends ? now_ns() + static_cast<int64_t>(random.below(50 * NS_PER_MS)) : NEVER;
  int64_t looks_at_ns = now_ns() + QUIET_NS;
  while (!is_over_ && now_ns() < ends_at_ns) {
    const int64_t left_ns = std::max<int64_t>(0, looks_at_ns - now_ns());
    pollfd ready{epoll_fd_, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(left_ns / NS_PER_MS)) > 0)
      poller_->serve();
    if (now_ns() >= looks_at_ns) {
      poller_->release_quiet();
      looks_at_ns = now_ns() + QUIET_NS;
    }
    if (random.one_in(32))
      sleep_for_some_time(LONGEST_TASK_NS);
  }
  poller_->close();
}

void Loop::end() {
  is_over_ = true;
  look_at_waits();
  wait_until([this] { return !is_running_; });
}

} // namespace simulation
