// See memory_budget.hpp.
#include "base/memory_budget.hpp"

#include <algorithm>

#include "base/invariant.hpp"

namespace asyncnbd::base {

bool MemoryBudget::try_take(uint64_t bytes) {
  uint64_t taken = taken_bytes_.load();
  do {
    if (bytes > limit_bytes_ || taken > limit_bytes_ - bytes)
      return false;
  } while (!taken_bytes_.compare_exchange_weak(taken, taken + bytes));
  return true;
}

MemoryBudget::Source MemoryBudget::take(uint64_t bytes, Waiter &waiter, uint64_t total_bytes) {
  if (waiting_.load() == 0 && try_take(bytes))
    return Source::memory;
  std::lock_guard lock(mutex_);
  if (place_of(waiter) == line_.end())
    join({&waiter, total_bytes, bytes});
  const auto place = next();
  if (place->waiter != &waiter)
    return Source::nothing;
  const Source source = take_in_turn(bytes);
  if (source != Source::nothing)
    remove(place);
  return source;
}

// The reserve first: whoever has it comes to its end, where a part of what is free might only be
// one more part of what is missing.
MemoryBudget::Source MemoryBudget::take_in_turn(uint64_t bytes) {
  if (reserve_is_taken_)
    return try_take(bytes) ? Source::memory : Source::nothing;
  reserve_is_taken_ = true;
  turn_ = (turn_ + 1) % TURNS;
  return Source::reserve;
}

void MemoryBudget::give_back(uint64_t bytes) {
  const uint64_t taken = taken_bytes_.fetch_sub(bytes);
  invariant(taken >= bytes, "memory that is given back was taken");
  if (waiting_.load() == 0)
    return;
  std::lock_guard lock(mutex_);
  tell_next();
}

void MemoryBudget::give_back_reserve() {
  std::lock_guard lock(mutex_);
  invariant(reserve_is_taken_, "a reserve that is given back was taken");
  reserve_is_taken_ = false;
  tell_next();
}

void MemoryBudget::leave(Waiter &waiter) {
  std::lock_guard lock(mutex_);
  if (const auto place = place_of(waiter); place != line_.end())
    remove(place);
}

// ---- the line ----------------------------------------------------------------------------------

MemoryBudget::Line::iterator MemoryBudget::place_of(const Waiter &waiter) {
  return std::find_if(line_.begin(), line_.end(),
                      [&](const Place &place) { return place.waiter == &waiter; });
}

// Of a line that is not empty.
MemoryBudget::Line::iterator MemoryBudget::next() {
  if (!reserve_is_taken_ && turn_ == 0)
    return line_.begin();
  return std::min_element(line_.begin(), line_.end(), [](const Place &one, const Place &other) {
    return one.total_bytes < other.total_bytes;
  });
}

void MemoryBudget::join(const Place &place) {
  line_.push_back(place);
  wanted_bytes_.fetch_add(place.wanted_bytes);
  // Sequentially consistent, and before the attempt: who gives something back after it sees us.
  waiting_.store(line_.size());
}

void MemoryBudget::remove(const Line::iterator &place) {
  wanted_bytes_.fetch_sub(place->wanted_bytes);
  line_.erase(place);
  waiting_.store(line_.size());
  tell_next();
}

void MemoryBudget::tell_next() {
  if (!line_.empty())
    next()->waiter->on_room();
}

} // namespace asyncnbd::base
