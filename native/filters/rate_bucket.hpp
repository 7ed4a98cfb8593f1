// A token bucket: holds the bits that may pass now, and is filled at a rate.
#pragma once

#include <cstdint>

#include "base/clock.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::filters {

// The changes of a bucket, for debugging.
struct BucketStep {
  bool is_limited = false; // otherwise nothing has changed
  uint64_t added = 0;
  uint64_t level = 0; // afterwards
  uint64_t taken = 0;
};

// Full at first. Any thread.
class RateBucket {
public:
  // `rate`: bits per second; 0: no limit. It holds as many as arrive in `capacity_seconds`.
  RateBucket(uint64_t rate, double capacity_seconds, const base::Clock &clock);
  RateBucket(const RateBucket &) = delete;
  RateBucket &operator=(const RateBucket &) = delete;

  // Takes up to `bits`. Returns how many are missing, and in `*wait` how long to wait before the
  // next try; others may take the bits first.
  uint64_t take(uint64_t bits, base::Duration *wait, BucketStep *step);
  // Takes all of them, if available now. False: takes none.
  bool take_at_once(uint64_t bits);
  // Gives back bits that were taken and not used.
  void put_back(uint64_t bits);
  // Returns the previous rate.
  uint64_t set_rate(uint64_t rate);

private:
  void fill_up();
  uint64_t capacity() const;
  base::Duration time_of(uint64_t bits) const; // until they arrive

  const double capacity_seconds_;
  const base::Clock &clock_;
  base::Mutex<base::LockRank::rate_bucket> mutex_; // guards the rest
  uint64_t rate_;
  uint64_t level_;
  base::Time as_of_;
};

} // namespace asyncnbd::filters
