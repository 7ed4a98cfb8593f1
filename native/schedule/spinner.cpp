// See spinner.hpp.
#include "schedule/spinner.hpp"

#include <algorithm>
#include <sched.h>

namespace asyncnbd::schedule {

namespace {

constexpr unsigned MAX_CREDIT = 16;
// Without credit it spins once in so many times, to see whether the client has changed.
constexpr unsigned TRY_AGAIN_AFTER = 16;

} // namespace

bool SpinLimit::enter() {
  if (spinning_.fetch_add(1, std::memory_order_relaxed) < limit_)
    return true;
  leave();
  return false;
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
  return limit_.enter();
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
