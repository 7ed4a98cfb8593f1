// What has been received from a client and not yet been parsed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sys/uio.h>

#include "base/buffers.hpp"

namespace asyncnbd::nbd {

// By whoever leads the connection.
class InputBuffer {
public:
  // Room for two writes of 128 KiB with their headers; more does not stay in the L2 cache.
  static constexpr size_t BYTES = (256 << 10) + (4 << 10);

  explicit InputBuffer(base::BufferPool &pool) : pool_(pool) {}
  ~InputBuffer();
  InputBuffer(const InputBuffer &) = delete;
  InputBuffer &operator=(const InputBuffer &) = delete;

  // What is there.
  uint8_t *data() const { return buffer_->data + begin_; }
  size_t bytes() const { return end_ - begin_; }
  void drop(size_t bytes) { begin_ += bytes; }
  // The first of what is there, for as long as the reference returned lives.
  base::Buffer *take(size_t bytes);

  // Makes sure that `bytes` can be here in one piece, and that there is room to receive more.
  // False: out of memory.
  bool make_room(size_t bytes);
  // Whether so many can be, without that.
  bool can_hold(size_t bytes) const { return buffer_->capacity_bytes - begin_ >= bytes; }
  // For what is received next; `add` says how much that was.
  iovec room() const { return {buffer_->data + end_, buffer_->capacity_bytes - end_}; }
  void add(size_t bytes) { end_ += bytes; }

  // What is not in use goes with the thread, and comes from it.
  void fill_thread_cache();
  void use_thread_cache();
  // Gives memory that is not in use back to the system.
  void release_idle_memory();

  // What the client sends will be in it, and nobody sees what is behind that. nullptr: out of
  // memory.
  static base::Buffer *get(base::BufferPool &pool, size_t bytes);

private:
  bool is_unused() const { return buffer_ != nullptr && bytes() == 0 && buffer_->is_exclusive(); }

  base::BufferPool &pool_;
  base::Buffer *buffer_ = nullptr; // there are bytes [begin_, end_)
  size_t begin_ = 0;
  size_t end_ = 0;
};

} // namespace asyncnbd::nbd
