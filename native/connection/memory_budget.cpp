// See memory_budget.hpp.
#include "connection/memory_budget.hpp"

#include <algorithm>

namespace asyncnbd::connection {

bool MemoryBudget::take(uint64_t bytes, Waiter &waiter) {
  if (!take_own(bytes, waiter))
    return false;
  if (parent_ == nullptr || parent_->take(bytes, waiter))
    return true;
  give_back_own(bytes);
  return false;
}

void MemoryBudget::take_anyway(uint64_t bytes) {
  taken_bytes_.fetch_add(bytes);
  if (parent_ != nullptr)
    parent_->take_anyway(bytes);
}

void MemoryBudget::give_back(uint64_t bytes) {
  give_back_own(bytes);
  if (parent_ != nullptr)
    parent_->give_back(bytes);
}

bool MemoryBudget::try_take(uint64_t bytes) {
  uint64_t taken = taken_bytes_.load();
  do {
    if (taken != 0 && (bytes > limit_bytes_ || taken > limit_bytes_ - bytes))
      return false;
  } while (!taken_bytes_.compare_exchange_weak(taken, taken + bytes));
  return true;
}

bool MemoryBudget::take_own(uint64_t bytes, Waiter &waiter) {
  if (waiting_.load() == 0 && try_take(bytes))
    return true;
  std::lock_guard lock(mutex_);
  const bool in_line = std::find(line_.begin(), line_.end(), &waiter) != line_.end();
  if (!in_line) {
    line_.push_back(&waiter);
    // Sequentially consistent, and before the attempt: who gives something back after it sees us.
    waiting_.store(line_.size());
  }
  if (line_.front() != &waiter || !try_take(bytes))
    return false;
  line_.pop_front();
  waiting_.store(line_.size());
  tell_first();
  return true;
}

void MemoryBudget::give_back_own(uint64_t bytes) {
  taken_bytes_.fetch_sub(bytes);
  if (waiting_.load() == 0)
    return;
  std::lock_guard lock(mutex_);
  tell_first();
}

void MemoryBudget::leave(Waiter &waiter) {
  {
    std::lock_guard lock(mutex_);
    line_.erase(std::remove(line_.begin(), line_.end(), &waiter), line_.end());
    waiting_.store(line_.size());
    tell_first();
  }
  if (parent_ != nullptr)
    parent_->leave(waiter);
}

void MemoryBudget::tell_first() {
  if (!line_.empty())
    line_.front()->on_room();
}

} // namespace asyncnbd::connection
