// How long things took: counted by any threads at once, without a lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace asyncnbd::base {

// Of times in nanoseconds: eight for each power of two.
constexpr size_t LATENCY_BUCKETS = size_t{62} * 8;

// What has been counted.
struct Latencies {
  std::array<uint64_t, LATENCY_BUCKETS> buckets{};
  uint64_t longest_ns = 0;

  uint64_t count() const;
  // So many of a hundred took no longer, to an eighth.
  uint64_t percentile_ns(double percent) const;
};

class LatencyHistogram {
public:
  void record(uint64_t ns);
  void add_to(Latencies *sum) const;

private:
  // Counts: they pair with nothing.
  std::array<std::atomic<uint64_t>, LATENCY_BUCKETS> buckets_{};
  std::atomic<uint64_t> longest_ns_{0};
};

} // namespace asyncnbd::base
