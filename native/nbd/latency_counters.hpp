// How long the requests to an export took, by their commands, for all of its connections.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.hpp"
#include "base/latency_histogram.hpp"
#include "base/mutex.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::nbd {

class LatencyCounters {
public:
  static constexpr size_t COMMANDS = wire::COMMANDS.size();

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

// Those of one server's exports. Clients choose names: once there are so many, further ones share
// theirs, for all threads alike. Thread-safe.
class ExportLatencies {
public:
  static constexpr size_t MAX_EXPORTS = 100;

  // Of the export, from now on.
  std::shared_ptr<LatencyCounters> of(const std::string &export_name) {
    std::lock_guard lock(mutex_);
    const bool is_known = all_.count(export_name) > 0 || all_.size() < MAX_EXPORTS;
    std::shared_ptr<LatencyCounters> &found = is_known ? all_[export_name] : rest_;
    if (found == nullptr)
      found = std::make_shared<LatencyCounters>();
    return found;
  }
  // Whether they are its own, from now on.
  bool are_own(const std::string &export_name) {
    const std::shared_ptr<LatencyCounters> found = of(export_name);
    std::lock_guard lock(mutex_);
    return found != rest_;
  }
  // Of those that share them; nullptr: there are none.
  std::shared_ptr<LatencyCounters> of_rest() {
    std::lock_guard lock(mutex_);
    return rest_;
  }

private:
  base::Mutex<base::LockRank::latencies> mutex_; // guards the rest
  std::map<std::string, std::shared_ptr<LatencyCounters>> all_;
  std::shared_ptr<LatencyCounters> rest_;
};

} // namespace asyncnbd::nbd
