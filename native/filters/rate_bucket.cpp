// See rate_bucket.hpp.
#include "filters/rate_bucket.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace asyncnbd::filters {

namespace {

constexpr uint64_t PER_SECOND = 1'000'000'000; // nanoseconds

// a * b / divisor, where the product may overflow.
uint64_t multiply_divide(uint64_t a, uint64_t b, uint64_t divisor) {
  uint64_t product;
  if (!__builtin_mul_overflow(a, b, &product)) // much faster to divide
    return std::min<uint64_t>(product / divisor, std::numeric_limits<int64_t>::max());
  const unsigned __int128 result = static_cast<unsigned __int128>(a) * b / divisor;
  return static_cast<uint64_t>(
      std::min<unsigned __int128>(result, std::numeric_limits<int64_t>::max()));
}

} // namespace

RateBucket::RateBucket(uint64_t rate, double capacity_seconds, const base::Clock &clock)
    : capacity_seconds_(capacity_seconds), clock_(clock), rate_(rate), level_(capacity()),
      as_of_(clock.now()) {}

// At least one bit, or nothing could ever be taken.
uint64_t RateBucket::capacity() const {
  constexpr double MOST = 0x1p63;
  const double bits = static_cast<double>(rate_) * capacity_seconds_;
  return static_cast<uint64_t>(std::clamp(bits, 1.0, MOST));
}

// Call it with the lock held.
void RateBucket::fill_up() {
  const base::Time now = clock_.now();
  const auto passed = std::chrono::duration_cast<std::chrono::nanoseconds>(now - as_of_).count();
  if (passed <= 0)
    return;
  const uint64_t added = multiply_divide(rate_, static_cast<uint64_t>(passed), PER_SECOND);
  const uint64_t room = capacity() - level_;
  level_ += std::min(added, room);
  // A fraction of a bit counts the next time.
  as_of_ = added < room ? as_of_ + time_of(added) : now;
}

bool RateBucket::take_at_once(uint64_t bits) {
  std::lock_guard lock(mutex_);
  if (rate_ == 0)
    return true;
  fill_up();
  if (level_ < bits)
    return false;
  level_ -= bits;
  return true;
}

void RateBucket::put_back(uint64_t bits) {
  std::lock_guard lock(mutex_);
  level_ += std::min(bits, capacity() - level_);
}

uint64_t RateBucket::take(uint64_t bits, base::Duration *wait, BucketStep *step) {
  std::lock_guard lock(mutex_);
  if (rate_ == 0)
    return 0;
  const uint64_t before = level_;
  fill_up();
  const uint64_t taken = std::min(bits, level_);
  *step = {true, level_ - before, level_, taken};
  level_ -= taken;
  bits -= taken;
  if (bits > 0) // no more fits
    *wait = time_of(std::min(bits, std::max<uint64_t>(capacity(), 1)));
  return bits;
}

base::Duration RateBucket::time_of(uint64_t bits) const {
  return std::chrono::nanoseconds(multiply_divide(bits, PER_SECOND, rate_));
}

uint64_t RateBucket::set_rate(uint64_t rate) {
  std::lock_guard lock(mutex_);
  const uint64_t before = std::exchange(rate_, rate);
  level_ = std::min(level_, capacity());
  return before;
}

} // namespace asyncnbd::filters
