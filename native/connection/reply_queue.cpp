// See reply_queue.hpp.
#include "connection/reply_queue.hpp"

#include <cstring>

#include "host/log.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::connection {

namespace {

constexpr size_t MAX_BUFFERS = 256; // well under IOV_MAX, and on the stack
constexpr size_t MAX_PENDING_BYTES = 8u << 20;

size_t reply_bytes(const PendingRequest &request) {
  bool has_data = request.type == wire::NBD_CMD_READ && request.error == 0;
  return wire::SIMPLE_REPLY_BYTES + (has_data ? request.length_bytes : 0);
}

void encode(const PendingRequest &request) {
  wire::encode_simple_reply(request.reply, request.cookie,
                            wire::error_from_errno(request.error, request.flags));
}

// Adds one reply, joined to the one before where they lie side by side in memory.
size_t append(iovec *buffers, size_t count, uint8_t *data, size_t length_bytes) {
  if (count > 0) {
    iovec &last = buffers[count - 1];
    if (static_cast<uint8_t *>(last.iov_base) + last.iov_len == data) {
      last.iov_len += length_bytes;
      return count;
    }
  }
  buffers[count] = {data, length_bytes};
  return count + 1;
}

PendingRequest *reversed(PendingRequest *chain) {
  PendingRequest *result = nullptr;
  while (chain != nullptr) {
    PendingRequest *next = chain->next;
    chain->next = result;
    result = chain;
    chain = next;
  }
  return result;
}

} // namespace

void ReplyQueue::push(PendingRequest *request) {
  pending_bytes_.fetch_add(reply_bytes(*request), std::memory_order_relaxed);
  request->next = top_.load(std::memory_order_relaxed);
  // Release pairs with the acquire in send_queued: the sender must see the reply's data.
  while (!top_.compare_exchange_weak(request->next, request, std::memory_order_release,
                                     std::memory_order_relaxed)) {
  }
}

void ReplyQueue::flush() {
  if (flushes_.fetch_add(1, std::memory_order_acq_rel) != 0)
    return;
  uint32_t seen;
  do {
    seen = flushes_.load(std::memory_order_acquire);
    send_queued();
    // Fails if another thread has flushed in between: its reply may have come too late for us.
  } while (!flushes_.compare_exchange_strong(seen, 0, std::memory_order_acq_rel));
}

void ReplyQueue::wait_for_room() {
  for (size_t pending = pending_bytes(); pending > MAX_PENDING_BYTES; pending = pending_bytes())
    pending_bytes_.wait(pending); // send_chain notifies
}

void ReplyQueue::send_queued() {
  PendingRequest *chain = top_.exchange(nullptr, std::memory_order_acquire);
  if (chain == nullptr)
    return;
  send_chain(reversed(chain)); // the stack gave the newest first
}

void ReplyQueue::send_chain(PendingRequest *first) {
  while (first != nullptr) {
    iovec buffers[MAX_BUFFERS];
    size_t buffer_count = 0;
    size_t bytes = 0;
    uint32_t request_count = 0;
    PendingRequest *last = nullptr;
    for (PendingRequest *request = first; request != nullptr && buffer_count < MAX_BUFFERS;
         request = request->next) {
      encode(*request);
      buffer_count = append(buffers, buffer_count, request->reply, reply_bytes(*request));
      bytes += reply_bytes(*request);
      request_count++;
      last = request;
    }
    if (!broken_) {
      int failure = transport_.send(buffers, buffer_count);
      if (failure != 0) {
        broken_ = true;
        host::log_debug("cannot send replies: %s", strerror(-failure));
        transport_.abort(); // nobody listens: wake the reader too
      }
    }
    pending_bytes_.fetch_sub(bytes);
    pending_bytes_.notify_all();
    PendingRequest *rest = last->next;
    listener_.on_sent(first, last, request_count);
    first = rest;
  }
}

} // namespace asyncnbd::connection
