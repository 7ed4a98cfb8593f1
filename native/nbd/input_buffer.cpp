// See input_buffer.hpp.
#include "nbd/input_buffer.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "nbd/thread_cache.hpp"

namespace asyncnbd::nbd {

namespace {

// Less room than this is not worth a receive when a fresh buffer is at hand.
constexpr size_t MIN_RECEIVE_BYTES = 32 << 10;

} // namespace

InputBuffer::~InputBuffer() {
  if (buffer_ != nullptr)
    buffer_->unref();
}

base::Buffer *InputBuffer::take(size_t bytes) {
  buffer_->ref();
  begin_ += bytes;
  return buffer_;
}

bool InputBuffer::make_room(size_t wanted_bytes) {
  if (is_unused())
    begin_ = end_ = 0;
  const size_t needed = std::max(wanted_bytes, bytes() + MIN_RECEIVE_BYTES);
  if (buffer_ != nullptr && can_hold(needed))
    return true;

  const size_t kept = bytes();
  if (buffer_ != nullptr && buffer_->is_exclusive()) {
    memmove(buffer_->data, data(), kept);
  } else {
    base::Buffer *fresh = get(pool_, BYTES); // requests still use the old one
    if (fresh == nullptr)
      return false;
    if (buffer_ != nullptr) {
      memcpy(fresh->data, data(), kept);
      buffer_->unref();
    }
    buffer_ = fresh;
  }
  begin_ = 0;
  end_ = kept;
  return true;
}

void InputBuffer::fill_thread_cache() {
  ThreadCache &cache = ThreadCache::of_this_thread();
  if (cache.input != nullptr || !is_unused())
    return;
  cache.input = std::exchange(buffer_, nullptr);
  begin_ = end_ = 0;
}

void InputBuffer::use_thread_cache() {
  ThreadCache &cache = ThreadCache::of_this_thread();
  if (buffer_ != nullptr || cache.input == nullptr)
    return;
  buffer_ = std::exchange(cache.input, nullptr);
  buffer_->content = base::Content::foreign;
  pool_.adopt(*buffer_);
}

void InputBuffer::release_idle_memory() {
  if (!is_unused())
    return;
  std::exchange(buffer_, nullptr)->unref();
  begin_ = end_ = 0;
}

base::Buffer *InputBuffer::get(base::BufferPool &pool, size_t bytes) {
  base::Buffer *buffer = pool.get(bytes, base::Content::foreign);
  if (buffer != nullptr)
    buffer->content = std::max(buffer->content, base::Content::own);
  return buffer;
}

} // namespace asyncnbd::nbd
