// How much memory the requests in flight of a server may take, and who gets it next.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

#include "base/mutex.hpp"

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

  // `nothing`: the waiter stands in line until it gets what it wants or leaves. Next is who will
  // hold least when its request is complete (`total_bytes`), and of equals who has waited longest:
  // requests that need little must not wait until all that have begun a large one and fallen silent
  // have been found out, one after the other.
  // `reserve`: nothing has been taken, but all that this request needs, it may have.
  enum class Source { nothing, memory, reserve };
  Source take(uint64_t bytes, Waiter &waiter, uint64_t total_bytes);
  void leave(Waiter &waiter);
  void give_back(uint64_t bytes);
  // What is taken already, whatever the limit.
  void add(uint64_t bytes) { taken_bytes_.fetch_add(bytes); }
  void give_back_reserve();

  // Whether somebody waits, and what all of them ask for next.
  bool is_short() const { return waiting_.load(std::memory_order_relaxed) > 0; }
  uint64_t wanted_bytes() const { return wanted_bytes_.load(std::memory_order_relaxed); }
  uint64_t taken_bytes() const { return taken_bytes_.load(std::memory_order_relaxed); }

private:
  // The reserve goes so often to who has waited longest, or large requests might wait for ever
  // while small ones come and go.
  static constexpr unsigned TURNS = 4;

  struct Place {
    Waiter *waiter;
    uint64_t total_bytes;
    uint64_t wanted_bytes; // now
  };
  using Line = std::deque<Place>; // first come first

  bool try_take(uint64_t bytes);
  Source take_in_turn(uint64_t bytes);
  Line::iterator place_of(const Waiter &waiter);
  Line::iterator next();
  void join(const Place &place);
  void remove(const Line::iterator &place);
  void tell_next();

  const uint64_t limit_bytes_;
  // What is taken pairs with the length of the line: see join and give_back.
  std::atomic<uint64_t> taken_bytes_{0};
  std::atomic<size_t> waiting_{0};        // the line's length, to be read without the lock
  std::atomic<uint64_t> wanted_bytes_{0}; // by all in line; an estimate, pairs with nothing
  Mutex<LockRank::memory_budget> mutex_;  // guards the rest
  Line line_;
  bool reserve_is_taken_ = false;
  unsigned turn_ = 1; // of the reserve; 0: of who has waited longest
};

} // namespace asyncnbd::base
