// See spinner.hpp.
#include "connection/spinner.hpp"

#include <algorithm>
#include <atomic>
#include <sched.h>
#include <thread>

namespace asyncnbd::connection {

namespace {

constexpr unsigned MAX_CREDIT = 16;
// Without credit, every so many chances one is taken, to see whether the client has changed.
constexpr unsigned TRY_AGAIN_AFTER = 16;

// Threads that spin at this moment. Whoever is to make something ready needs a core too.
std::atomic<unsigned> spinning{0};

unsigned max_spinning() {
  static const unsigned cores = std::thread::hardware_concurrency();
  return cores > 1 ? cores - 1 : 0;
}

} // namespace

bool Spinner::may_spin() {
  if (budget_.count() == 0)
    return false;
  if (credit_ == 0) {
    if (++skipped_ < TRY_AGAIN_AFTER)
      return false;
    skipped_ = 0;
    credit_ = 1;
  }
  if (spinning.fetch_add(1, std::memory_order_relaxed) < max_spinning())
    return true;
  spinning.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void Spinner::account(bool paid) {
  spinning.fetch_sub(1, std::memory_order_relaxed);
  credit_ = paid ? std::min(credit_ + 1, MAX_CREDIT) : credit_ - 1;
}

// Lets another thread run that wants this core; returns at once if there is none.
void Spinner::yield() {
  sched_yield();
}

} // namespace asyncnbd::connection
