// How much memory the requests in flight of a server may take, and who gets it next.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>

namespace asyncnbd::base {

// Thread-safe. Beside the limit there is one reserve: it belongs to a single request at a time, so
// that requests that have got a part of what they need cannot block each other for ever.
class MemoryBudget {
public:
  // Who could not get what it wants, and is told when to try again.
  class Waiter {
  public:
    virtual ~Waiter() = default;
    virtual void on_room() = 0; // any thread; must neither block nor call the budget
  };

  explicit MemoryBudget(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // `nothing`: the waiter stands in line, first come first served, until it gets what it wants or
  // leaves. `reserve`: nothing has been taken, but all that this request needs, it may have.
  enum class Source { nothing, memory, reserve };
  Source take(uint64_t bytes, Waiter &waiter);
  void leave(Waiter &waiter);
  void give_back(uint64_t bytes);
  // What is taken already, whatever the limit.
  void add(uint64_t bytes) { taken_bytes_.fetch_add(bytes); }
  void give_back_reserve();

  // Whether somebody waits.
  bool is_short() const { return waiting_.load(std::memory_order_relaxed) > 0; }
  uint64_t taken_bytes() const { return taken_bytes_.load(std::memory_order_relaxed); }

private:
  bool try_take(uint64_t bytes);
  void tell_first();

  const uint64_t limit_bytes_;
  std::atomic<uint64_t> taken_bytes_{0};
  std::atomic<size_t> waiting_{0}; // the line's length, to be read without the lock
  std::mutex mutex_;
  std::deque<Waiter *> line_;
  bool reserve_is_taken_ = false;
};

} // namespace asyncnbd::base
