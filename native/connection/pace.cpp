// See pace.hpp.
#include "connection/pace.hpp"

#include <algorithm>

namespace asyncnbd::connection {

namespace {

// To hand a connection's reading to another thread takes a wake-up, 10 to 50 us. A call that
// takes longer than that is better begun after the hand-over, a shorter one is over before it.
constexpr std::chrono::microseconds SLOW_FROM{60};
constexpr std::chrono::microseconds QUICK_UP_TO{25};
constexpr unsigned TIME_EACH = 16;
constexpr int CERTAIN = 4; // so many more slow calls than quick ones

} // namespace

Pace::Timed::Timed(Pace &pace) : pace_(nullptr) {
  const unsigned number = pace.calls_.fetch_add(1, std::memory_order_relaxed);
  if (!pace.is_slow() && number % TIME_EACH != 0)
    return;
  pace_ = &pace;
  begin_ = Clock::now();
}

Pace::Timed::~Timed() {
  if (pace_ != nullptr)
    pace_->count(Clock::now() - begin_);
}

namespace {

// Two threads may count at once and one of them in vain: there will be other calls. Returns the
// state that it has come to for certain, or else the present one.
bool count_up_or_down(std::atomic<int> &calls, bool up, bool present) {
  const int sum = std::clamp(calls.load(std::memory_order_relaxed) + (up ? 1 : -1), 0, CERTAIN);
  calls.store(sum, std::memory_order_relaxed);
  return sum == CERTAIN || (sum != 0 && present);
}

} // namespace

void Pace::count(Clock::duration duration) {
  is_quick_.store(!count_up_or_down(unquick_calls_, duration > QUICK_UP_TO, !is_quick()),
                  std::memory_order_relaxed);
  if (duration <= QUICK_UP_TO || duration >= SLOW_FROM)
    is_slow_.store(count_up_or_down(slow_calls_, duration >= SLOW_FROM, is_slow()),
                   std::memory_order_relaxed);
}

void Pace::count_stuck() {
  count(SLOW_FROM);
}

} // namespace asyncnbd::connection
