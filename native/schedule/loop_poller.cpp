// See loop_poller.hpp.
#include "schedule/loop_poller.hpp"

#include <utility>

#include "schedule/pollable.hpp"

namespace asyncnbd::schedule {

namespace {

constinit thread_local LoopPoller::Turn turn_of_this_thread = LoopPoller::Turn::none;

} // namespace

LoopPoller::Turn LoopPoller::current_turn() {
  return turn_of_this_thread;
}

// The registration may be another's afterwards.
void LoopPoller::give_turn(Registration &registration, Turn turn) {
  const Turn before = std::exchange(turn_of_this_thread, turn);
  registration.pollable->resume();
  turn_of_this_thread = before;
}

void LoopPoller::serve() {
  Registration *registration = table_.next(0);
  if (registration == nullptr || !registration->notify())
    return;
  registration->last_turn_ms.store(base::in_ms(clock_.now()), std::memory_order_relaxed);
  give_turn(*registration, Turn::input);
}

void LoopPoller::release_quiet() {
  const int64_t now = base::in_ms(clock_.now());
  table_.each([now](Registration &registration) {
    const int64_t last_turn_ms = registration.last_turn_ms.load(std::memory_order_relaxed);
    if (now - last_turn_ms >= QUIET_MS && registration.claim())
      give_turn(registration, Turn::leave);
  });
}

void LoopPoller::close() {
  is_closed_.fetch_or(1, std::memory_order_acq_rel);
  table_.each([](Registration &registration) {
    if (registration.claim())
      give_turn(registration, Turn::last);
  });
}

Registration *LoopPoller::add(Pollable &pollable, const PolledFds &fds) {
  return is_closed_.load(std::memory_order_relaxed) != 0 ? nullptr : table_.add(pollable, fds);
}

PollTable::Wait LoopPoller::wait(Registration &registration) {
  const PollTable::Wait wait = table_.wait(registration);
  return wait == PollTable::Wait::begun && has_ended_for(registration) ? PollTable::Wait::impossible
                                                                       : wait;
}

// Does not look whether the client has closed its end, as `wait` does: the turn may find requests
// that came before.
bool LoopPoller::wait_for_turn(Registration &registration) {
  while (!registration.try_wait()) {
  }
  return !has_ended_for(registration);
}

// For a registration that has just begun to wait. If the loop ends at the same time, `close` claims
// it, or we do: of the two that change is_closed_, the second sees what the first has done before.
bool LoopPoller::has_ended_for(Registration &registration) {
  return is_closed_.fetch_or(0, std::memory_order_acq_rel) != 0 && registration.claim();
}

} // namespace asyncnbd::schedule
