// See memory_budget.hpp.
#include "base/memory_budget.hpp"

#include <algorithm>
#include <utility>

namespace asyncnbd::base {

bool MemoryBudget::try_take(uint64_t bytes) {
  uint64_t taken = taken_bytes_.load();
  do {
    if (bytes > limit_bytes_ || taken > limit_bytes_ - bytes)
      return false;
  } while (!taken_bytes_.compare_exchange_weak(taken, taken + bytes));
  return true;
}

MemoryBudget::Source MemoryBudget::take(uint64_t bytes, Waiter &waiter) {
  if (waiting_.load() == 0 && try_take(bytes))
    return Source::memory;
  std::lock_guard lock(mutex_);
  const bool in_line = std::find(line_.begin(), line_.end(), &waiter) != line_.end();
  if (!in_line) {
    line_.push_back(&waiter);
    // Sequentially consistent, and before the attempt: who gives something back after it sees us.
    waiting_.store(line_.size());
  }
  if (line_.front() != &waiter)
    return Source::nothing;
  Source source = Source::memory;
  if (!try_take(bytes)) {
    if (std::exchange(reserve_is_taken_, true))
      return Source::nothing;
    source = Source::reserve;
  }
  line_.pop_front();
  waiting_.store(line_.size());
  tell_first();
  return source;
}

void MemoryBudget::give_back(uint64_t bytes) {
  taken_bytes_.fetch_sub(bytes);
  if (waiting_.load() == 0)
    return;
  std::lock_guard lock(mutex_);
  tell_first();
}

void MemoryBudget::give_back_reserve() {
  std::lock_guard lock(mutex_);
  reserve_is_taken_ = false;
  tell_first();
}

void MemoryBudget::leave(Waiter &waiter) {
  std::lock_guard lock(mutex_);
  line_.erase(std::remove(line_.begin(), line_.end(), &waiter), line_.end());
  waiting_.store(line_.size());
  tell_first();
}

void MemoryBudget::tell_first() {
  if (!line_.empty())
    line_.front()->on_room();
}

} // namespace asyncnbd::base
