// See buffers.hpp.
#include "base/buffers.hpp"

#include <sys/mman.h>
#include <utility>

namespace asyncnbd::base {

namespace {

// What a busy connection keeps, and all of them; an idle one calls trim. Fresh memory costs a page
// fault per 4 KiB, which is more than sending it does; so buffers of the usual sizes stay, giants
// go.
constexpr size_t MAX_FREE_BYTES = 32u << 20;
constexpr size_t MAX_ALL_FREE_BYTES = 64u << 20;
constexpr size_t MAX_KEPT_BYTES = 4u << 20;
constexpr size_t PAGE_BYTES = 4096;
// A free buffer serves a smaller request unless that would waste most of it.
constexpr size_t MAX_EXCESS = 4;
// What pieces are carved from, and what is too large to be one beside others.
constexpr size_t CARVED_BYTES = 64 << 10;
constexpr size_t MAX_PIECE_BYTES = CARVED_BYTES / 4;
constexpr size_t PIECE_ALIGNMENT = 16;

} // namespace

void BufferPool::destroy(Buffer *buffer) {
  munmap(buffer->data, buffer->capacity_bytes);
  delete buffer;
}

void Buffer::unref() {
  // Release: this owner's use of the memory comes before its next owner's.
  if (references.fetch_sub(1, std::memory_order_acq_rel) == 1)
    pool->put(this);
}

BufferPool::~BufferPool() {
  trim();
}

BufferPool::Piece BufferPool::carve(size_t bytes) {
  bytes = (bytes + PIECE_ALIGNMENT - 1) & ~(PIECE_ALIGNMENT - 1);
  if (bytes > MAX_PIECE_BYTES) {
    Buffer *buffer = get(bytes, Content::foreign);
    return {buffer, buffer != nullptr ? buffer->data : nullptr};
  }
  std::lock_guard lock(carving_);
  if (carved_ != nullptr && carved_->is_exclusive())
    carved_bytes_ = 0;
  if (carved_ == nullptr || carved_->capacity_bytes - carved_bytes_ < bytes) {
    Buffer *fresh = get(CARVED_BYTES, Content::foreign);
    if (fresh == nullptr)
      return {nullptr, nullptr};
    if (carved_ != nullptr)
      carved_->unref();
    carved_ = fresh;
    carved_bytes_ = 0;
  }
  carved_->ref();
  return {carved_, carved_->data + std::exchange(carved_bytes_, carved_bytes_ + bytes)};
}

void BufferPool::trim() {
  {
    std::lock_guard lock(carving_);
    if (carved_ != nullptr)
      std::exchange(carved_, nullptr)->unref();
  }
  std::lock_guard lock(mutex_);
  while (free_ != nullptr) {
    Buffer *next = free_->next_free;
    destroy(free_);
    free_ = next;
  }
  free_of_all_.bytes.fetch_sub(free_bytes_, std::memory_order_relaxed);
  free_bytes_ = 0;
}

size_t BufferPool::free_bytes() {
  std::lock_guard lock(mutex_);
  return free_bytes_;
}

Buffer *BufferPool::get(size_t capacity_bytes, Content content) {
  {
    std::lock_guard lock(mutex_);
    for (Buffer **link = &free_; *link != nullptr; link = &(*link)->next_free) {
      Buffer *buffer = *link;
      if (buffer->content > content || buffer->capacity_bytes < capacity_bytes ||
          buffer->capacity_bytes / MAX_EXCESS > capacity_bytes)
        continue;
      *link = buffer->next_free;
      free_bytes_ -= buffer->capacity_bytes;
      free_of_all_.bytes.fetch_sub(buffer->capacity_bytes, std::memory_order_relaxed);
      buffer->references.store(1, std::memory_order_relaxed);
      return buffer;
    }
  }
  size_t rounded = (capacity_bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
  void *memory = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return nullptr;
  return new Buffer{static_cast<uint8_t *>(memory), rounded, this};
}

void BufferPool::put(Buffer *buffer) {
  const size_t bytes = buffer->capacity_bytes;
  // Threads that keep one at the same time may exceed the limit by as many.
  if (bytes <= MAX_KEPT_BYTES &&
      free_of_all_.bytes.load(std::memory_order_relaxed) + bytes <= MAX_ALL_FREE_BYTES) {
    std::lock_guard lock(mutex_);
    if (free_bytes_ + bytes <= MAX_FREE_BYTES) {
      buffer->next_free = free_;
      free_ = buffer;
      free_bytes_ += bytes;
      free_of_all_.bytes.fetch_add(bytes, std::memory_order_relaxed);
      return;
    }
  }
  destroy(buffer);
}

} // namespace asyncnbd::base
