// Counts clients' requests by kind and size, and how long they took: on any threads at once,
// without a lock.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "backend/request.hpp"
#include "base/clock.hpp"
#include "base/latency_histogram.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

// The numbers of trailing zero bits that an offset may have: 0 to 63, or 64 for offset 0.
constexpr size_t ALIGNMENTS = 65;

// For requests of one kind whose size has the same number of bits.
struct SizeCounts {
  uint64_t requests = 0;
  uint64_t bytes = 0;
  std::array<uint64_t, ALIGNMENTS> aligned{};
};

// For one kind of requests.
struct KindCounts {
  uint64_t done = 0;
  uint64_t failed = 0;
  uint64_t bytes = 0; // only successful ones
  uint64_t done_ns = 0;
  uint64_t failed_ns = 0;
  base::Latencies latencies;            // failed ones too
  std::map<unsigned, SizeCounts> sizes; // by bits; only successful ones

  uint64_t requests() const { return done + failed; }
};

class RequestCounters {
public:
  static constexpr size_t KINDS = wire::COMMANDS.size(); // by command

  RequestCounters();
  ~RequestCounters();
  RequestCounters(const RequestCounters &) = delete;
  RequestCounters &operator=(const RequestCounters &) = delete;

  // Before the first client.
  void count_sizes() { counts_sizes_ = true; }

  // The place for a new client. Clients count in separate places, as far as there are enough.
  size_t next_place() { return clients_.fetch_add(1, std::memory_order_relaxed) % PLACES; }
  void record(size_t place, const backend::Request &request, int error, base::Duration time);

  // The counts so far.
  KindCounts of(uint16_t type) const;

private:
  using Count = std::atomic<uint64_t>; // pairs with nothing

  struct Sizes {
    Count bytes{0};
    std::array<Count, ALIGNMENTS> aligned{};
  };
  struct Kind {
    Count done{0};
    Count failed{0};
    Count bytes{0};
    Count done_ns{0};
    Count failed_ns{0};
    base::LatencyHistogram latencies;
    // By bits. The release of the thread that makes one pairs with the acquire of its users.
    std::array<std::atomic<Sizes *>, 64> sizes{};
  };
  // No two share a cache line.
  struct alignas(64) Place {
    std::array<Kind, KINDS> kinds;
  };
  static constexpr size_t PLACES = 4;

  static Sizes *sizes_of(Kind &kind, unsigned bits);
  static void add(const Kind &kind, KindCounts *counts);

  const std::unique_ptr<std::array<Place, PLACES>> places_;
  std::atomic<size_t> clients_{0}; // pairs with nothing
  bool counts_sizes_ = false;
};

} // namespace asyncnbd::filters
