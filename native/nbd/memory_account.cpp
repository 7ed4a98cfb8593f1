// See memory_account.hpp.
#include "nbd/memory_account.hpp"

#include <algorithm>
#include <utility>

#include "base/invariant.hpp"

namespace asyncnbd::nbd {

bool MemoryAccount::take(MemoryCharge &charge, uint64_t bytes, base::MemoryBudget::Waiter &waiter) {
  const uint64_t allotted = allotted_bytes_.load();
  const uint64_t taken = allotted + shared_bytes_.load();
  uint64_t limit_bytes = limit_bytes_;
  if (taken + bytes > FIRST_LIMIT_BYTES)
    limit_bytes = std::min(limit_bytes, FIRST_LIMIT_BYTES + returned_bytes_.load());
  if (taken + bytes > limit_bytes && taken > charge.bytes()) {
    leave(waiter); // who waits for its own replies must not hold up those behind it
    return false;
  }
  if (charge.has_reserve) {
    charge.reserved_bytes += bytes;
    shared_bytes_.fetch_add(bytes);
    return true;
  }
  if (allotted + bytes <= allotment_bytes_) {
    leave(waiter);
    charge.allotted_bytes += bytes;
    allotted_bytes_.fetch_add(bytes);
    return true;
  }
  const auto source = server_ == nullptr ? base::MemoryBudget::Source::memory
                                         : server_->take(bytes, waiter, total_bytes(charge, bytes));
  is_in_line_ = source == base::MemoryBudget::Source::nothing;
  if (is_in_line_)
    return false;
  charge.has_reserve = source == base::MemoryBudget::Source::reserve;
  if (charge.has_reserve)
    has_reserve_.store(true, std::memory_order_relaxed);
  (charge.has_reserve ? charge.reserved_bytes : charge.shared_bytes) += bytes;
  shared_bytes_.fetch_add(bytes);
  return true;
}

// What the connection holds of the server's memory once this request is complete. What it holds
// already counts twice: a client that takes none of its replies asks for little more each time.
uint64_t MemoryAccount::total_bytes(const MemoryCharge &charge, uint64_t bytes) const {
  const uint64_t missing_bytes = charge.full_bytes - std::min(charge.full_bytes, charge.bytes());
  return 2 * shared_bytes_.load(std::memory_order_relaxed) + std::max(bytes, missing_bytes);
}

void MemoryAccount::leave(base::MemoryBudget::Waiter &waiter) {
  if (std::exchange(is_in_line_, false))
    server_->leave(waiter);
}

void MemoryAccount::give_back(const MemoryCharge &charge) {
  returned_bytes_.fetch_add(charge.bytes(), std::memory_order_relaxed);
  if (charge.allotted_bytes > 0)
    base::invariant(allotted_bytes_.fetch_sub(charge.allotted_bytes) >= charge.allotted_bytes,
                    "of an allotment, no more comes back than was taken");
  if (const uint64_t shared_bytes = charge.shared_bytes + charge.reserved_bytes)
    base::invariant(shared_bytes_.fetch_sub(shared_bytes) >= shared_bytes,
                    "of the shared memory, no more comes back than was taken");
  if (server_ == nullptr)
    return;
  if (charge.has_reserve) {
    has_reserve_.store(false, std::memory_order_relaxed);
    server_->give_back_reserve();
  }
  if (charge.shared_bytes > 0)
    server_->give_back(charge.shared_bytes);
}

void MemoryAccount::add(MemoryCharge &charge, uint64_t bytes) {
  charge.shared_bytes += bytes;
  shared_bytes_.fetch_add(bytes);
  if (server_ != nullptr)
    server_->add(bytes);
}

void MemoryAccount::shrink(MemoryCharge &charge, uint64_t bytes) {
  MemoryCharge part;
  part.allotted_bytes = std::min(bytes, charge.allotted_bytes);
  part.shared_bytes = std::min(bytes - part.allotted_bytes, charge.shared_bytes);
  charge.allotted_bytes -= part.allotted_bytes;
  charge.shared_bytes -= part.shared_bytes;
  give_back(part);
}

schedule::HeldMemory MemoryAccount::held() const {
  return {server_, shared_bytes_.load(std::memory_order_relaxed),
          has_reserve_.load(std::memory_order_relaxed)};
}

} // namespace asyncnbd::nbd
