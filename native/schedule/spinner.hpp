// Lets a thread that has nothing to do look again and again for a moment before it sleeps, where
// that pays: being woken costs more than most requests do.
#pragma once

#include <atomic>
#include <chrono>

#include "base/clock.hpp"

namespace asyncnbd::schedule {

// Limits how many threads spin at once, because the threads that they wait for need cores too. None
// may spin while other work waits for the cores. Any thread.
class SpinLimit {
public:
  explicit SpinLimit(unsigned cores) : limit_(cores > 1 ? cores - 1 : 0) {}

  // False: not now.
  bool enter(const base::Clock &clock);
  void leave() { spinning_.fetch_sub(1, std::memory_order_relaxed); }
  // A look that ended `now`, and found something, took this long.
  void note_look(base::Duration took, base::Time now);

private:
  void rest(int64_t now_ms);

  const unsigned limit_;
  // Only a count: it pairs with nothing, nor does the next.
  std::atomic<unsigned> spinning_{0};
  std::atomic<int64_t> rests_until_ms_{0}; // 0: they do not rest
  // When the last long look ended, and what long looks have cost, less the time between them:
  // estimates, which pair with nothing.
  std::atomic<int64_t> last_ended_us_{INT64_MIN / 2};
  std::atomic<int64_t> lost_us_{0};
  // Of the last rest: an estimate, too.
  std::atomic<int64_t> rest_ended_ms_{INT64_MIN / 2};
  std::atomic<int64_t> rest_ms_{0};
};

// One for each connection, used by its leader, or for each worker.
class Spinner {
public:
  // 0 microseconds: never spins.
  Spinner(const base::Clock &clock, SpinLimit &limit, unsigned budget_us)
      : clock_(clock), limit_(limit), budget_(budget_us) {}

  // 0 microseconds: does not spin.
  void set_budget(unsigned us) { budget_ = std::chrono::microseconds(us); }

  // Calls `is_ready` until it returns true or the time is up. Returns false at once if spinning has
  // not paid lately, or would take the last core from others.
  template <typename IsReady> bool spin(IsReady is_ready) {
    if (!may_spin())
      return false;
    base::Time before = clock_.now();
    const base::Time deadline = before + budget_;
    bool ready;
    do {
      yield();
      ready = is_ready();
      const base::Time now = clock_.now();
      if (ready)
        limit_.note_look(now - before, now);
      before = now;
    } while (!ready && before < deadline);
    account(ready);
    return ready;
  }

private:
  bool may_spin();
  void account(bool paid);
  static void yield();

  const base::Clock &clock_;
  SpinLimit &limit_;
  std::chrono::microseconds budget_;
  unsigned credit_ = 1;  // how often spinning may fail before it stops
  unsigned skipped_ = 0; // how often it has not spun since the credit was used up
};

} // namespace asyncnbd::schedule
