// A request while it is in the plugin.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "host/async_calls.hpp"
#include "host/extents_list.hpp"

namespace asyncnbd::backend {

class CBackend;

// A request in one of the plugin's callbacks.
struct Call {
  Request *request = nullptr;
  std::unique_ptr<uint8_t[]> rest; // the part of a write that pages could not take
  host::ExtentsPointer extents;    // the extents that the plugin adds for a block status
};

// The same for a plugin that may answer later. No two share a cache line: one is begun while
// another is replied to.
class alignas(64) Operation final : public host::AsyncCall {
public:
  Call call;
  CBackend *backend = nullptr;

private:
  friend class OperationPool;

  int on_reply(const host::AsyncReply &reply) override;
  void on_late_reply() override;

  // Used by its pool.
  bool is_in_use_ = false;
  Operation *next_free_ = nullptr;
  Operation *next_ = nullptr;
  Operation *previous_ = nullptr;
};

} // namespace asyncnbd::backend
