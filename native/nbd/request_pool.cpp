// See request_pool.hpp.
#include "nbd/request_pool.hpp"

#include <algorithm>
#include <utility>

#include "nbd/reply_encoding.hpp"
#include "nbd/thread_cache.hpp"

namespace asyncnbd::nbd {

namespace {

// As much as an input buffer: see there.
constexpr size_t OUTPUT_BYTES = (256 << 10) + (4 << 10);
// Plugins expect the alignment that malloc gives.
constexpr size_t REPLY_ALIGNMENT = 16;

constexpr size_t aligned(size_t bytes) {
  return (bytes + REPLY_ALIGNMENT - 1) & ~(REPLY_ALIGNMENT - 1);
}

} // namespace

RequestPool::~RequestPool() {
  if (output_ != nullptr)
    output_->unref();
  destroy(free_);
  destroy(recycled_.load(std::memory_order_acquire));
}

PendingRequest *RequestPool::make() {
  if (free_ == nullptr) // the acquire pairs with recycle: the sender has finished with them
    free_ = recycled_.exchange(nullptr, std::memory_order_acquire);
  PendingRequest *request = free_;
  if (request != nullptr)
    free_ = request->next;
  else if ((request = resources_.requests.make()) == nullptr)
    return nullptr;
  request->enter(PendingRequest::Stage::free, PendingRequest::Stage::incoming);
  request->reset();
  request->completers.reset(maker_);
  return request;
}

void RequestPool::recycle(PendingRequest *first, PendingRequest *last) {
  last->next = recycled_.load(std::memory_order_relaxed);
  while (!recycled_.compare_exchange_weak(last->next, first, std::memory_order_release,
                                          std::memory_order_relaxed)) {
  }
}

// Of output_.
bool RequestPool::has_room(size_t bytes, bool is_for_data) const {
  return output_ != nullptr && output_->capacity_bytes - output_used_ >= bytes &&
         !(is_for_data && output_->content > base::Content::own);
}

bool RequestPool::place_reply(PendingRequest *request, uint32_t data_bytes) {
  // The header ends where the data begins, which keeps the alignment.
  const size_t header_bytes = data_header_bytes(style_);
  const size_t header_room = aligned(header_bytes);
  const size_t needed = header_room + data_bytes;
  uint8_t *place;
  request->style = style_;
  if (needed > OUTPUT_BYTES) {
    request->reply_buffer = buffers_.get(needed);
    if (request->reply_buffer == nullptr)
      return false;
    place = request->reply_buffer->data;
  } else {
    if (output_ != nullptr && output_->is_exclusive())
      output_used_ = 0;
    if (!has_room(needed, data_bytes > 0)) {
      base::Buffer *fresh = buffers_.get(OUTPUT_BYTES);
      if (fresh == nullptr)
        return false;
      if (output_ != nullptr)
        output_->unref();
      output_ = fresh;
      output_used_ = 0;
    }
    output_->ref();
    request->reply_buffer = output_;
    place = output_->data + output_used_;
    output_used_ = std::min(output_used_ + aligned(needed), output_->capacity_bytes);
  }
  request->reply = place + header_room - header_bytes;
  if (data_bytes > 0) {
    request->reply_buffer->content = std::max(request->reply_buffer->content, base::Content::own);
    request->data = place + header_room;
  }
  return true;
}

void RequestPool::fill_thread_cache() {
  ThreadCache &cache = ThreadCache::of_this_thread();
  cache.add(std::exchange(free_, nullptr));
  cache.add(recycled_.exchange(nullptr, std::memory_order_acquire));
  if (cache.output == nullptr && output_ != nullptr && output_->content != base::Content::own &&
      output_->is_exclusive())
    cache.output = std::exchange(output_, nullptr);
}

void RequestPool::use_thread_cache() {
  ThreadCache &cache = ThreadCache::of_this_thread();
  if (free_ == nullptr)
    free_ = std::exchange(cache.requests, nullptr);
  if (output_ == nullptr && cache.output != nullptr) {
    output_ = std::exchange(cache.output, nullptr);
    output_->content = base::Content::foreign;
    buffers_.adopt(*output_);
  }
}

void RequestPool::release_idle_memory() {
  destroy(std::exchange(free_, nullptr));
  destroy(recycled_.exchange(nullptr, std::memory_order_acquire));
  if (output_ != nullptr && output_->is_exclusive())
    std::exchange(output_, nullptr)->unref();
  buffers_.trim();
}

} // namespace asyncnbd::nbd
