// One connection's requests, and the memory that their replies are made in.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/buffers.hpp"
#include "nbd/pending_request.hpp"
#include "nbd/resources.hpp"

namespace asyncnbd::nbd {

// By whoever leads the connection, unless a function says more.
class RequestPool {
public:
  RequestPool(Resources &resources, backend::Maker &maker, wire::ReplyStyle style)
      : resources_(resources), maker_(maker), style_(style) {}
  ~RequestPool();
  RequestPool(const RequestPool &) = delete;
  RequestPool &operator=(const RequestPool &) = delete;

  // nullptr: out of memory.
  PendingRequest *make();
  // Finds memory for the reply's header and the data behind it. Small replies share a buffer, one
  // behind the other, and leave as one piece. False: out of memory.
  bool place_reply(PendingRequest *request, uint32_t data_bytes);
  // Takes back requests, all there are before the pool's end, in a chain, when nothing of them is
  // needed any more. Any thread.
  void recycle(PendingRequest *first, PendingRequest *last);

  // For what replies are made of, and for input. Any thread.
  base::BufferPool &buffers() { return buffers_; }

  // What is not in use goes with the thread, and comes from it.
  void fill_thread_cache();
  void use_thread_cache();
  // Gives memory that is not in use back to the system.
  void release_idle_memory();

private:
  bool has_room(size_t bytes, bool is_for_data) const;

  Resources &resources_;
  backend::Maker &maker_;
  const wire::ReplyStyle style_;
  base::BufferPool buffers_{resources_.free_memory};
  base::Buffer *output_ = nullptr; // replies are placed from output_used_ on
  size_t output_used_ = 0;
  PendingRequest *free_ = nullptr;
  std::atomic<PendingRequest *> recycled_{nullptr}; // release in recycle, acquire in make
};

} // namespace asyncnbd::nbd
