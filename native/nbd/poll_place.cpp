// See poll_place.hpp.
#include "nbd/poll_place.hpp"

#include "base/invariant.hpp"

namespace asyncnbd::nbd {

using schedule::IdlePoller;
using schedule::PollTable;
using schedule::Registration;

// A connection for which others would have had to wait has its own thread until it idles: it would
// be so again.
bool PollPlace::is_wanted(bool has_idled) {
  if (IdlePoller::is_replaced())
    keeps_thread_.store(true, std::memory_order_relaxed);
  if (!can_be_polled_ || !shared_.runtime.idle_poller.is_open())
    return false;
  if (has_idled)
    keeps_thread_.store(false, std::memory_order_relaxed);
  return has_idled || (!keeps_thread_.load(std::memory_order_relaxed) && latency_.is_quick());
}

void PollPlace::suspend_input() {
  if (Registration *registration = registration_.load(std::memory_order_relaxed))
    shared_.runtime.idle_poller.table().suspend_input(*registration);
}

void PollPlace::before_delay() {
  if (!IdlePoller::delays_others())
    return;
  keeps_thread_.store(true, std::memory_order_relaxed);
  IdlePoller::before_delay();
}

bool PollPlace::enter(schedule::Pollable &pollable) {
  if (registration_.load(std::memory_order_relaxed) != nullptr)
    return true;
  const transport::Transport &transport = shared_.transport;
  Registration *registration = shared_.runtime.idle_poller.table().add(
      pollable, {transport.input_fd(), transport.wake_fd()});
  registration_.store(registration); // sequentially consistent: see wake_to_stop
  can_be_polled_ = registration != nullptr;
  return can_be_polled_;
}

bool PollPlace::wait() {
  Registration *registration = registration_.load(std::memory_order_relaxed);
  base::invariant(registration != nullptr, "who waits in the poller has a place there");
  const PollTable::Wait wait = shared_.runtime.idle_poller.table().wait(*registration);
  if (wait == PollTable::Wait::begun)
    return true;
  if (wait == PollTable::Wait::impossible)
    can_be_polled_ = false;
  return false;
}

void PollPlace::replace_worker() {
  if (Registration *registration = registration_.load(std::memory_order_acquire))
    IdlePoller::replace_worker(*registration);
}

// Either we see that it waits elsewhere, or it sees, before it does, that it is to stop.
void PollPlace::wake_to_stop() {
  if (registration_.load() != nullptr)
    shared_.transport.wake();
}

void PollPlace::leave() {
  if (Registration *registration = registration_.exchange(nullptr))
    shared_.runtime.idle_poller.table().remove(*registration);
}

} // namespace asyncnbd::nbd
