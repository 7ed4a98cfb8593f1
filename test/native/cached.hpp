// The cache filter in front of a disk in memory, and disks that lack something or note what they
// are asked.
#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "block_filter.hpp"

namespace cached {

using namespace asyncnbd;
using namespace asyncnbd::backend;

constexpr uint64_t SIZE = 64 * BLOCK + 700; // the last block is short

struct Cached : BlockFilter {
  explicit Cached(filters::FilterOptions options)
      : BlockFilter("cache", std::move(options), SIZE, SIZE) {}
};

inline const filters::FilterOptions WRITEBACK{{"mode", std::string("writeback")}};

inline int flush(Backend &client) {
  return run(client, wire::NBD_CMD_FLUSH, 0, 0);
}

// One that lacks what a test takes away.
struct LesserBackend : MemoryBackend {
  LesserBackend(MemoryDisk &disk, void (*change)(Facts &)) : MemoryBackend(disk) { change(told_); }
};

using Calls = std::vector<std::string>;

// One that notes how it is written to and flushed: "write 3+2 fua" of blocks.
struct NotedBackend final : LesserBackend {
  NotedBackend(
      MemoryDisk &disk, Calls &noted, void (*change)(Facts &) = [](Facts &) {})
      : LesserBackend(disk, change), calls(noted) {}

  void submit(Request &request, Caller caller) override {
    if (request.type == wire::NBD_CMD_FLUSH)
      calls.emplace_back("flush");
    else if (request.type == wire::NBD_CMD_WRITE)
      calls.push_back("write " + std::to_string(request.offset / BLOCK) + "+" +
                      std::to_string(request.length_bytes / BLOCK) +
                      ((request.flags & wire::NBD_CMD_FLAG_FUA) != 0 ? " fua" : ""));
    LesserBackend::submit(request, caller);
  }

  Calls &calls;
};

inline int fail_flushes(const Request &request) {
  return request.type == wire::NBD_CMD_FLUSH ? EIO : 0;
}

} // namespace cached
