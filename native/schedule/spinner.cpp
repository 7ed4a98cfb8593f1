// See spinner.hpp.
#include "schedule/spinner.hpp"

#include <algorithm>
#include <sched.h>

namespace asyncnbd::schedule {

namespace {

constexpr unsigned MAX_CREDIT = 16;
// Without credit it spins only once in this many times, to see whether the client has changed.
constexpr unsigned TRY_AGAIN_AFTER = 16;

// A thread that yields to one that computes gets its core back only after the other's time slice,
// which takes as long as a hundred requests; had it slept, it would have been woken at once.
constexpr base::Duration LONG_LOOK = std::chrono::microseconds(500);
// Threads of this very process compute now and then, too. But where another program computes,
// waiting for the core takes most of the time: so much more than all the rest.
constexpr int64_t MUCH_US = 30'000;
// What one look counts at most, because a single one may be chance, however long it is.
constexpr int64_t MOST_OF_A_LOOK_US = 5'000;
constexpr int64_t REST_MS = 500;
// Each rest is longer than the last if the other program was still there at its end.
constexpr int64_t LONGEST_REST_MS = 8000;
constexpr int64_t STILL_THERE_MS = 10000; // after a rest

int64_t in_us(base::Duration time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

} // namespace

bool SpinLimit::enter(const base::Clock &clock) {
  const int64_t until_ms = rests_until_ms_.load(std::memory_order_relaxed);
  if (until_ms != 0) {
    if (base::in_ms(clock.now()) < until_ms)
      return false;
    rests_until_ms_.store(0, std::memory_order_relaxed);
  }
  if (spinning_.fetch_add(1, std::memory_order_relaxed) < limit_)
    return true;
  leave();
  return false;
}

void SpinLimit::note_look(base::Duration took, base::Time now) {
  if (took < LONG_LOOK)
    return;
  const int64_t began_us = in_us((now - took).time_since_epoch());
  const int64_t ended_us = in_us(now.time_since_epoch());
  const int64_t between_us =
      std::max<int64_t>(began_us - last_ended_us_.exchange(ended_us, std::memory_order_relaxed), 0);
  const int64_t left_us = lost_us_.load(std::memory_order_relaxed) - between_us;
  const int64_t lost_us = std::max<int64_t>(left_us, 0) + std::min(in_us(took), MOST_OF_A_LOOK_US);
  lost_us_.store(lost_us, std::memory_order_relaxed);
  if (lost_us >= MUCH_US)
    rest(base::in_ms(now));
}

void SpinLimit::rest(int64_t now_ms) {
  if (now_ms < rests_until_ms_.load(std::memory_order_relaxed))
    return; // another thread saw the same
  const bool is_still_there =
      now_ms - rest_ended_ms_.load(std::memory_order_relaxed) <= STILL_THERE_MS;
  const int64_t rest_ms =
      is_still_there ? std::min(2 * rest_ms_.load(std::memory_order_relaxed), LONGEST_REST_MS)
                     : REST_MS;
  rest_ms_.store(rest_ms, std::memory_order_relaxed);
  rest_ended_ms_.store(now_ms + rest_ms, std::memory_order_relaxed);
  rests_until_ms_.store(now_ms + rest_ms, std::memory_order_relaxed);
}

bool Spinner::may_spin() {
  if (budget_.count() == 0)
    return false;
  if (credit_ == 0) {
    if (++skipped_ < TRY_AGAIN_AFTER)
      return false;
    skipped_ = 0;
    credit_ = 1;
  }
  return limit_.enter(clock_);
}

void Spinner::account(bool paid) {
  limit_.leave();
  credit_ = paid ? std::min(credit_ + 1, MAX_CREDIT) : credit_ - 1;
}

// Lets another thread run that wants this core; returns at once if there is none.
void Spinner::yield() {
  sched_yield();
}

} // namespace asyncnbd::schedule
