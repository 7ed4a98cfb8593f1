// See call_latency.hpp.
#include "schedule/call_latency.hpp"

#include <algorithm>

namespace asyncnbd::schedule {

namespace {

// Handing over to another thread takes a wake-up of 10 to 50 us. A call that takes longer is better
// begun after the hand-over; a shorter one is over before it.
constexpr std::chrono::microseconds SLOW_FROM{60};
constexpr std::chrono::microseconds QUICK_UP_TO{25};
constexpr unsigned TIME_EACH = 16;
constexpr int CERTAIN = 4; // so many more slow calls than quick ones

// The mean is that of about this many calls, and is known after as many. One call of a millisecond
// counts as much as forty quick ones: while it lasts, its thread serves nobody else.
constexpr int MEAN_OF = 16;
// A longer call counts as this long: else the mean would stay high for too long.
constexpr std::chrono::nanoseconds LONGEST{1000000};

} // namespace

CallLatency::Timed::Timed(CallLatency &latency) : latency_(nullptr) {
  const unsigned number = latency.calls_.fetch_add(1, std::memory_order_relaxed);
  if (!latency.is_slow() && latency.is_quick() && number % TIME_EACH != 0)
    return;
  latency_ = &latency;
  begin_ = latency.clock_.now();
}

CallLatency::Timed::~Timed() {
  if (latency_ != nullptr)
    latency_->count(latency_->clock_.now() - begin_);
}

// If two threads count at once, one count may be lost, which does not matter to an estimate.
void CallLatency::count(base::Duration duration) {
  const int64_t ns = std::min<std::chrono::nanoseconds>(duration, LONGEST).count();
  int64_t mean_ns = mean_ns_.load(std::memory_order_relaxed);
  mean_ns += (ns - mean_ns) / MEAN_OF;
  mean_ns_.store(mean_ns, std::memory_order_relaxed);
  const bool is_known = timed_calls_.fetch_add(1, std::memory_order_relaxed) + 1 >= MEAN_OF;
  is_quick_.store(is_known && std::chrono::nanoseconds(mean_ns) <= QUICK_UP_TO,
                  std::memory_order_relaxed);

  if (duration > QUICK_UP_TO && duration < SLOW_FROM)
    return;
  const int step = duration >= SLOW_FROM ? 1 : -1;
  const int sum = std::clamp(slow_calls_.load(std::memory_order_relaxed) + step, 0, CERTAIN);
  slow_calls_.store(sum, std::memory_order_relaxed);
  if (sum == CERTAIN || sum == 0)
    is_slow_.store(sum == CERTAIN, std::memory_order_relaxed);
}

void CallLatency::count_slow_call() {
  count(LONGEST);
}

} // namespace asyncnbd::schedule
