// See registrations.hpp.
#include "schedule/registrations.hpp"

#include "base/invariant.hpp"

namespace asyncnbd::schedule {

bool Registration::claim() {
  State expected = State::waiting;
  return state.compare_exchange_strong(expected, State::busy, std::memory_order_acq_rel);
}

bool Registration::notify() {
  for (;;) {
    if (claim())
      return true;
    State expected = State::busy;
    if (state.compare_exchange_strong(expected, State::notified))
      return false;
    if (expected != State::waiting) // else it has begun to wait meanwhile
      return false;
  }
}

bool Registration::try_wait() {
  State expected = State::busy;
  if (state.compare_exchange_strong(expected, State::waiting, std::memory_order_acq_rel))
    return true;
  base::invariant(expected == State::notified, "who begins to wait has the pollable");
  state.store(State::busy, std::memory_order_relaxed);
  return false;
}

Registration &Registrations::take() {
  std::lock_guard lock(mutex_);
  Registration *registration = free_;
  if (registration == nullptr)
    return all_.emplace_back();
  base::invariant(registration->state.load(std::memory_order_relaxed) ==
                      Registration::State::unused,
                  "a free registration is unused");
  free_ = registration->next_free;
  return *registration;
}

void Registrations::put(Registration &registration) {
  std::lock_guard lock(mutex_);
  registration.next_free = free_;
  free_ = &registration;
}

Registration *Registrations::at(size_t index) {
  std::lock_guard lock(mutex_);
  return index < all_.size() ? &all_[index] : nullptr;
}

} // namespace asyncnbd::schedule
