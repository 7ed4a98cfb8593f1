// How many requests clients have made, of which kinds and sizes, and how long they took: counted by
// any threads at once, without a lock.
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
#include "wire/constants.hpp"

namespace asyncnbd::filters {

// By the zero bits at the end of an offset, which is a multiple of anything if it is 0.
constexpr size_t ALIGNMENTS = 65;

// Of requests of so many bits, of one kind.
struct SizeCounts {
  uint64_t requests = 0;
  uint64_t bytes = 0;
  std::array<uint64_t, ALIGNMENTS> aligned{};
};

// Of one kind.
struct KindCounts {
  uint64_t done = 0;
  uint64_t failed = 0;
  uint64_t bytes = 0; // of those that are done
  uint64_t done_ns = 0;
  uint64_t failed_ns = 0;
  base::Latencies latencies;            // of those that have failed, too
  std::map<unsigned, SizeCounts> sizes; // by bits; of those that are done

  uint64_t requests() const { return done + failed; }
};

class RequestCounters {
public:
  static constexpr size_t KINDS = wire::NBD_CMD_BLOCK_STATUS + 1; // by command

  RequestCounters();
  ~RequestCounters();
  RequestCounters(const RequestCounters &) = delete;
  RequestCounters &operator=(const RequestCounters &) = delete;

  // Before the first client.
  void count_sizes() { counts_sizes_ = true; }

  // Clients count apart from each other, as far as there is room.
  size_t next_place() { return clients_.fetch_add(1, std::memory_order_relaxed) % PLACES; }
  void record(size_t place, const backend::Request &request, int error, base::Duration time);

  // Up to now.
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
    // By bits. The release of who has made it pairs with the acquire of who uses it.
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
