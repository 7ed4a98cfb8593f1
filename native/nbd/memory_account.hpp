// What one connection's requests in flight take: an allotment of its own first, then parts of the
// server's budget.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/memory_budget.hpp"
#include "schedule/stall_guard.hpp"

namespace asyncnbd::nbd {

// Of one request, or the sum of several.
struct MemoryCharge {
  uint64_t allotted_bytes = 0;
  uint64_t shared_bytes = 0;
  uint64_t reserved_bytes = 0;
  bool has_reserve = false;
  uint64_t full_bytes = 0; // that it will come to, as far as that is known; not of a sum

  uint64_t bytes() const { return allotted_bytes + shared_bytes + reserved_bytes; }
  void add(const MemoryCharge &other) {
    allotted_bytes += other.allotted_bytes;
    shared_bytes += other.shared_bytes;
    reserved_bytes += other.reserved_bytes;
    has_reserve = has_reserve || other.has_reserve;
  }
};

// One thread at a time takes; any gives back.
class MemoryAccount {
public:
  // What a request takes besides its data, roughly.
  static constexpr uint32_t REQUEST_BYTES = 512;
  // A first request of so much data always finds memory.
  static constexpr uint32_t FIRST_BYTES = 128 << 10;
  static constexpr uint64_t ALLOTTED_BYTES = FIRST_BYTES + REQUEST_BYTES;

  // `server`: nullptr if nothing is shared. `allotment_bytes`: what no other connection can take.
  MemoryAccount(uint64_t limit_bytes, base::MemoryBudget *server,
                uint64_t allotment_bytes = ALLOTTED_BYTES)
      : limit_bytes_(limit_bytes), allotment_bytes_(allotment_bytes), server_(server) {}

  // Adds to what a request takes. False: the waiter is told when to try again, by the server's
  // budget or whoever gives back. A request that is alone may have more than the limit.
  bool take(MemoryCharge &charge, uint64_t bytes, base::MemoryBudget::Waiter &waiter);
  // It will not try again.
  void leave(base::MemoryBudget::Waiter &waiter);
  void give_back(const MemoryCharge &charge);
  // What is there already, and could not be foreseen. Any thread that has the request.
  void add(MemoryCharge &charge, uint64_t bytes);
  // A part of it is not needed after all.
  void shrink(MemoryCharge &charge, uint64_t bytes);

  // Of the server's memory. Any thread.
  schedule::HeldMemory held() const;

private:
  // A client that has not yet taken what it has asked for gets no more than this; with each byte
  // that it takes, its limit grows.
  static constexpr uint64_t FIRST_LIMIT_BYTES = 16 << 20;

  uint64_t total_bytes(const MemoryCharge &charge, uint64_t bytes) const;

  const uint64_t limit_bytes_;
  const uint64_t allotment_bytes_;
  base::MemoryBudget *const server_;
  // Counts. Who gives back changes them before it looks whether the leader waits, which looks at
  // them after it has said so: see AnswerWaits. What has been returned is added first,
  // so that who sees less taken sees it too.
  std::atomic<uint64_t> allotted_bytes_{0};
  std::atomic<uint64_t> shared_bytes_{0}; // and of the reserve
  std::atomic<uint64_t> returned_bytes_{0};
  std::atomic<bool> has_reserve_{false}; // one of its requests; an estimate, pairs with nothing
  bool is_in_line_ = false;              // whoever takes: at the server's budget
};

} // namespace asyncnbd::nbd
