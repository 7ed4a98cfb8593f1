// How long the requests to an export took, by their commands, for all of its connections.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/clock.hpp"
#include "base/latency_histogram.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::connection {

class LatencyCounters {
public:
  static constexpr size_t COMMANDS = wire::NBD_CMD_BLOCK_STATUS + 1;

  // Connections count apart from each other, as far as there is room.
  size_t next_place() { return connections_.fetch_add(1, std::memory_order_relaxed) % PLACES; }

  // Of a command that there is.
  void record(size_t place, uint16_t type, base::Duration time) {
    places_[place].commands[type].record(
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count()));
  }

  // Up to now.
  base::Latencies of(uint16_t type) const {
    base::Latencies sum;
    for (const Place &place : places_)
      place.commands[type].add_to(&sum);
    return sum;
  }

private:
  // No two share a cache line.
  struct alignas(64) Place {
    std::array<base::LatencyHistogram, COMMANDS> commands;
  };
  static constexpr size_t PLACES = 2;

  std::array<Place, PLACES> places_;
  std::atomic<size_t> connections_{0}; // pairs with nothing
};

} // namespace asyncnbd::connection
