// See loop_place.hpp.
#include "nbd/loop_place.hpp"

#include <memory>

#include "base/invariant.hpp"

namespace asyncnbd::nbd {

using schedule::PollTable;
using schedule::Registration;

namespace {

// A payload from here on costs more to move from one processor's cache to another's than to have
// the other thread receive it.
constexpr uint64_t MIN_LARGE_BYTES = 64 << 10;
constexpr unsigned LEAD = 8;

} // namespace

bool Tendency::note(bool is_so) {
  if (is_so && lead_ < LEAD && ++lead_ == LEAD)
    holds_ = true;
  else if (!is_so && lead_ > 0 && --lead_ == 0)
    holds_ = false;
  return holds_;
}

// An encrypted stream takes its time, which the loop has not.
LoopPlace::LoopPlace(Transmission &transmission)
    : shared_(transmission),
      loop_(shared_.transport.can_be_polled() && shared_.transport.receives_all_there_is()
                ? shared_.ends.loop.get()
                : nullptr) {}

// Where many clients wait for each of their requests, other threads receive those of one while the
// script works on another's.
void LoopPlace::note(const backend::Request &request, bool is_alone) {
  const bool sends_large_writes = sends_large_writes_.note(request.type == wire::NBD_CMD_WRITE &&
                                                           request.length_bytes >= MIN_LARGE_BYTES);
  const bool waits_for_each = waits_for_each_.note(is_alone);
  is_wanted_ = sends_large_writes || (waits_for_each && !shared_.runtime.idle_poller.is_open());
}

bool LoopPlace::enter(schedule::Pollable &pollable) {
  base::invariant(!is_there(), "a connection enters its loop once");
  const transport::Transport &transport = shared_.transport;
  loop_->spin_for(shared_.settings.limits.spin_us);
  Registration *registration = loop_->add(pollable, {transport.input_fd(), transport.wake_fd()});
  registration_.store(registration); // sequentially consistent: see wake_to_stop
  if (registration != nullptr && wait_for_turn())
    return true;
  leave();
  loop_ = nullptr;
  is_wanted_ = false;
  return false;
}

bool LoopPlace::wait() {
  Registration *registration = registration_.load(std::memory_order_relaxed);
  base::invariant(registration != nullptr, "who waits on a loop has a place there");
  return loop_->wait(*registration) == PollTable::Wait::begun;
}

// What is to be done may have arrived long ago, so that there would be no event for it.
bool LoopPlace::wait_for_turn() {
  Registration *registration = registration_.load(std::memory_order_relaxed);
  base::invariant(registration != nullptr, "who waits on a loop has a place there");
  const std::shared_ptr<void> keep = shared_.life; // another thread may end it
  if (!loop_->wait_for_turn(*registration))
    return false;
  shared_.transport.wake();
  return true;
}

void LoopPlace::leave() {
  if (Registration *registration = registration_.exchange(nullptr))
    loop_->remove(*registration);
}

// Either we see that it waits there, or it sees, before it does, that it is to stop.
void LoopPlace::wake_to_stop() {
  if (registration_.load() != nullptr)
    shared_.transport.wake();
}

} // namespace asyncnbd::nbd
