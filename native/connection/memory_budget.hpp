// How much memory requests in flight may take: of one connection, and of all of a server's.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>

namespace asyncnbd::connection {

// Thread-safe. What is taken from it is taken from its parent as well.
class MemoryBudget {
public:
  // Who could not get what it wants, and is told when to try again.
  class Waiter {
  public:
    virtual ~Waiter() = default;
    virtual void on_room() = 0; // any thread; must neither block nor call the budget
  };

  explicit MemoryBudget(uint64_t limit_bytes, MemoryBudget *parent = nullptr)
      : limit_bytes_(limit_bytes), parent_(parent) {}

  // If nothing is taken, the whole may be exceeded: what is larger than it must go alone. False:
  // the waiter stands in line, first come first served, until it gets what it wants or leaves.
  bool take(uint64_t bytes, Waiter &waiter);
  // What nobody could know before: whatever there is, others wait for it.
  void take_anyway(uint64_t bytes);
  void leave(Waiter &waiter);
  void give_back(uint64_t bytes);

  uint64_t taken_bytes() const { return taken_bytes_.load(std::memory_order_relaxed); }

private:
  bool take_own(uint64_t bytes, Waiter &waiter);
  bool try_take(uint64_t bytes);
  void give_back_own(uint64_t bytes);
  void tell_first();

  const uint64_t limit_bytes_;
  MemoryBudget *const parent_;
  std::atomic<uint64_t> taken_bytes_{0};
  std::atomic<size_t> waiting_{0}; // the line's length, to be read without the lock
  std::mutex mutex_;
  std::deque<Waiter *> line_;
};

} // namespace asyncnbd::connection
