// How many requests one connection has had, and how many bytes they were about.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "backend/request.hpp"
#include "nbd/latency_counters.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::nbd {

// Any thread may look. Counts: they pair with nothing.
class RequestCounters {
public:
  static constexpr size_t COMMANDS = LatencyCounters::COMMANDS;
  struct OfCommand {
    uint64_t requests;
    uint64_t failed;
    uint64_t bytes; // of a read and a write, what the client has asked for
  };

  // By the leader alone: no atomic addition is needed, only values that others may read.
  void count(const backend::Request &request) {
    add(requests_, 1);
    if (request.type >= COMMANDS)
      return;
    add(commands_[request.type].requests, 1);
    add(commands_[request.type].bytes, request.length_bytes);
  }

  // Any thread.
  void count_failure(const backend::Request &request) {
    failed_.fetch_add(1, std::memory_order_relaxed);
    if (request.type < COMMANDS)
      commands_[request.type].failed.fetch_add(1, std::memory_order_relaxed);
  }

  uint64_t requests() const { return requests_.load(std::memory_order_relaxed); }
  uint64_t failed() const { return failed_.load(std::memory_order_relaxed); }
  uint64_t read_bytes() const { return bytes_of(wire::NBD_CMD_READ); }
  uint64_t written_bytes() const { return bytes_of(wire::NBD_CMD_WRITE); }
  uint64_t moved_bytes() const { return read_bytes() + written_bytes(); }

  // By NBD_CMD_*.
  std::array<OfCommand, COMMANDS> by_command() const {
    std::array<OfCommand, COMMANDS> counts;
    for (size_t type = 0; type < COMMANDS; type++)
      counts[type] = {commands_[type].requests.load(std::memory_order_relaxed),
                      commands_[type].failed.load(std::memory_order_relaxed),
                      commands_[type].bytes.load(std::memory_order_relaxed)};
    return counts;
  }

private:
  using Count = std::atomic<uint64_t>;
  struct Command {
    Count requests{0};
    Count failed{0};
    Count bytes{0};
  };

  static void add(Count &count, uint64_t amount) {
    count.store(count.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  uint64_t bytes_of(uint16_t type) const {
    return commands_[type].bytes.load(std::memory_order_relaxed);
  }

  Count requests_{0};
  Count failed_{0};
  std::array<Command, COMMANDS> commands_;
};

} // namespace asyncnbd::nbd
