// One request on its way through a plugin's callbacks: first the one for its command, then those
// that stand in for what the plugin has not got.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "host/abi.hpp"
#include "host/async_calls.hpp"

namespace asyncnbd::backend {

class CBackend;

enum class Step : uint8_t {
  lookup,  // where a read has holes
  command, // the callback of the request's command
  pieces,  // zeroing by pwrite or caching by pread, piece by piece; a read without its holes
  flush,   // FUA, where the plugin has no better
};

struct FreeExtents {
  void operator()(nbdkit_extents *extents) const { nbdkit_extents_free(extents); }
};

struct Progress {
  Request *request = nullptr;
  Step step = Step::command;
  bool needs_flush = false;
  uint64_t done_bytes = 0;            // of the request
  uint32_t piece_bytes = 0;           // of the one being done
  size_t context = 0;                 // of a block status, the one being done
  unsigned parts = 0;                 // of its range, that were asked about
  std::unique_ptr<uint8_t[]> scratch; // what is read only to be cached, or rest of a write
  std::unique_ptr<nbdkit_extents, FreeExtents> extents; // what the plugin adds of a block status
};

// The same for a plugin that may answer later. No two share a cache line: one is begun while
// another is replied to.
class alignas(64) Operation final : public host::AsyncCall {
public:
  Progress progress;
  CBackend *backend = nullptr;

private:
  friend class OperationPool;

  int on_reply(const host::AsyncReply &reply) override;
  void on_late_reply() override;

  // Of its pool.
  Operation *next_free_ = nullptr;
  Operation *next_ = nullptr;
  Operation *previous_ = nullptr;
};

} // namespace asyncnbd::backend
