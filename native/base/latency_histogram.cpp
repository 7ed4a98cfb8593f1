// See latency_histogram.hpp.
#include "base/latency_histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace asyncnbd::base {

namespace {

constexpr auto RELAXED = std::memory_order_relaxed;
constexpr unsigned STEP_BITS = 3; // an eighth

size_t bucket_of(uint64_t ns) {
  if (ns < (1u << STEP_BITS))
    return ns;
  const unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - STEP_BITS;
  return (size_t{shift} << STEP_BITS) + (ns >> shift);
}

// The longest time that is counted there.
uint64_t end_of_bucket(size_t bucket) {
  if (bucket < (2u << STEP_BITS))
    return bucket;
  const size_t shift = (bucket >> STEP_BITS) - 1;
  const uint64_t step = (bucket & ((1u << STEP_BITS) - 1)) + (1u << STEP_BITS);
  return ((step + 1) << shift) - 1;
}

static_assert(LATENCY_BUCKETS == (64 - STEP_BITS + 1) << STEP_BITS);

} // namespace

uint64_t Latencies::count() const {
  return std::accumulate(buckets.begin(), buckets.end(), uint64_t{0});
}

uint64_t Latencies::percentile_ns(double percent) const {
  const auto wanted =
      static_cast<uint64_t>(std::ceil(static_cast<double>(count()) * percent / 100));
  uint64_t counted = 0;
  for (size_t bucket = 0; bucket < buckets.size(); bucket++) {
    counted += buckets[bucket];
    if (counted >= wanted && counted > 0)
      return std::min(end_of_bucket(bucket), longest_ns);
  }
  return longest_ns;
}

void LatencyHistogram::record(uint64_t ns) {
  buckets_[bucket_of(ns)].fetch_add(1, RELAXED);
  uint64_t longest = longest_ns_.load(RELAXED);
  while (ns > longest && !longest_ns_.compare_exchange_weak(longest, ns, RELAXED)) {
  }
}

void LatencyHistogram::add_to(Latencies *sum) const {
  for (size_t i = 0; i < LATENCY_BUCKETS; i++)
    sum->buckets[i] += buckets_[i].load(RELAXED);
  sum->longest_ns = std::max(sum->longest_ns, longest_ns_.load(RELAXED));
}

} // namespace asyncnbd::base
