// A token bucket: as many bits as may pass now, filled up at a rate.
#pragma once

#include <cstdint>

#include "base/clock.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::filters {

// What has been done to a bucket, for debugging.
struct BucketStep {
  bool is_limited = false; // else nothing has
  uint64_t added = 0;
  uint64_t level = 0; // then
  uint64_t taken = 0;
};

// Full at first. Any thread.
class RateBucket {
public:
  // `rate`: bits a second; 0: no limit. It holds as many as come in `capacity_seconds`.
  RateBucket(uint64_t rate, double capacity_seconds, const base::Clock &clock);
  RateBucket(const RateBucket &) = delete;
  RateBucket &operator=(const RateBucket &) = delete;

  // Takes as many of `bits` as there are. Returns how many are missing, and then when to come
  // again; others may be faster.
  uint64_t take(uint64_t bits, base::Duration *wait, BucketStep *step);
  // All of them, if there are so many now. False: none.
  bool take_at_once(uint64_t bits);
  // Gives back what was taken and not used.
  void put_back(uint64_t bits);
  // Returns the rate before.
  uint64_t set_rate(uint64_t rate);

private:
  void fill_up();
  uint64_t capacity() const;
  base::Duration time_of(uint64_t bits) const; // that they take to come

  const double capacity_seconds_;
  const base::Clock &clock_;
  base::Mutex<base::LockRank::rate_bucket> mutex_; // guards the rest
  uint64_t rate_;
  uint64_t level_;
  base::Time as_of_;
};

} // namespace asyncnbd::filters
