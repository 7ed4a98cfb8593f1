// Ends connections whose clients stall: they have begun a request and do not send the rest, or do
// not take the replies to what they have asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "base/clock.hpp"
#include "base/memory_budget.hpp"
#include "base/mutex.hpp"
#include "base/timers.hpp"

namespace asyncnbd::schedule {

// What a client does not do although we wait for it.
enum class Stall { sends_nothing, takes_nothing };

// Measures how long a client has been slow in one direction. Thread-safe.
class StallMeter {
public:
  // Since when the client has been too slow: since then it has neither moved much nor finished a
  // part of its work. `moved_bytes` is what it has moved in all by now, `part` the number of the
  // current part.
  base::Time slow_since(base::Time now, uint64_t moved_bytes, uint64_t part);
  // The connection has waited for something else than its client until now.
  void restart(base::Time now);

private:
  base::Mutex<base::LockRank::stall_meter> mutex_;
  base::Time since_{};
  uint64_t moved_bytes_ = 0;
  uint64_t part_ = UINT64_MAX;
};

// How much memory a connection holds that others may wait for.
struct HeldMemory {
  const base::MemoryBudget *budget; // of the server, or nullptr
  uint64_t shared_bytes;            // and of the reserve
  bool has_reserve;

  bool keeps_others_waiting() const {
    return budget != nullptr && shared_bytes > 0 && budget->is_short();
  }
};

// A connection, whose client may stall.
class Stallable {
public:
  virtual ~Stallable() = default;
  // On the timers' thread, with the guard's lock held; must neither block nor take long.
  virtual void on_stall(Stall stall, std::chrono::milliseconds lasts) = 0;
  virtual HeldMemory held_memory() const = 0;
};

class StallGuard;

// As long as it lives, a thread waits for a client that has been slow since `since`. The guard
// reports the client after `limit`, or earlier if others wait for its memory.
class GuardedWait {
public:
  // A wait that is shorter needs no guard.
  static constexpr std::chrono::milliseconds UNGUARDED{1000};

  GuardedWait(StallGuard &guard, Stallable &whose, Stall stall, base::Time since,
              std::chrono::milliseconds limit);
  ~GuardedWait();
  GuardedWait(const GuardedWait &) = delete;
  GuardedWait &operator=(const GuardedWait &) = delete;

private:
  friend class StallGuard;
  StallGuard &guard_;
  Stallable &whose_;
  const Stall stall_;
  const base::Time since_;
  const std::chrono::milliseconds limit_;
  bool is_reported_ = false;
};

// Looks at all guarded waits several times a second, as long as there are any.
class StallGuard final : private base::Timer {
public:
  StallGuard(const base::Clock &clock, base::Timers &timers) : clock_(clock), timers_(timers) {}

private:
  friend class GuardedWait;
  void add(GuardedWait &wait);
  void remove(GuardedWait &wait);
  void on_due() override;
  void set_timer(base::Time now);
  void look(base::Time now);
  static bool is_over_limit(const GuardedWait &wait, base::Time now, const HeldMemory &held,
                            uint64_t freed_bytes);
  static void report(GuardedWait &wait, base::Time now);

  const base::Clock &clock_;
  base::Timers &timers_;
  base::Mutex<base::LockRank::stall_guard> mutex_; // guards the rest
  std::vector<GuardedWait *> waits_;
  bool is_set_ = false; // the timer
};

} // namespace asyncnbd::schedule
