// See poll_table.hpp.
#include "schedule/poll_table.hpp"

#include "base/invariant.hpp"

namespace asyncnbd::schedule {

Registration *PollTable::add(Pollable &pollable, const PolledFds &fds) {
  if (!poller_.open())
    return nullptr;
  Registration &registration = registrations_.take();
  registration.pollable = &pollable;
  registration.fds = fds;
  registration.input_is_suspended = false;
  registration.has_ended.store(false, std::memory_order_relaxed);
  registration.last_turn_ms.store(base::in_ms(clock_.now()), std::memory_order_relaxed);
  registration.state.store(Registration::State::busy, std::memory_order_release);
  count_.fetch_add(1);
  if (poller_.add(fds, &registration))
    return &registration;
  remove(registration);
  return nullptr;
}

PollTable::Wait PollTable::wait(Registration &registration) {
  // Before the pollable may be claimed: once it is, it may be removed, and its descriptor's number
  // may be another's.
  if (registration.input_is_suspended && !poller_.resume_input(registration.fds, &registration))
    return Wait::impossible;
  registration.input_is_suspended = false;
  // Reset at once: an event for the registration's previous pollable must not keep this one from
  // waiting again and again.
  if (registration.has_ended.exchange(false))
    return Wait::woken;
  return registration.try_wait() ? Wait::begun : Wait::woken;
}

void PollTable::suspend_input(Registration &registration) {
  if (!registration.input_is_suspended)
    registration.input_is_suspended = poller_.suspend_input(registration.fds, &registration);
}

void PollTable::remove(Registration &registration) {
  poller_.remove(registration.fds);
  registration.pollable = nullptr;
  registration.fds = {};
  const Registration::State before = registration.state.exchange(Registration::State::unused);
  base::invariant(before == Registration::State::busy || before == Registration::State::notified,
                  "who removes a pollable has it");
  count_.fetch_sub(1);
  registrations_.put(registration);
}

Registration *PollTable::next(int timeout_ms) {
  const std::optional<Poller::Event> event = poller_.wait(timeout_ms);
  if (!event)
    return nullptr;
  auto *registration = static_cast<Registration *>(event->whose);
  if (event->has_ended)
    registration->has_ended.store(true);
  return registration;
}

} // namespace asyncnbd::schedule
