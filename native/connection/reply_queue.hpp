// Replies on their way to the client: queued by any thread, sent together by whichever thread
// holds the send right.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "backend/backend.hpp"
#include "connection/buffers.hpp"
#include "transport/transport.hpp"

namespace asyncnbd::connection {

// A request from its parsing until its reply has left.
struct PendingRequest : backend::Request {
  uint64_t cookie;
  int error;              // what the backend (or the check before it) said
  uint8_t *reply;         // the reply's header; a read's data follows it at once
  Buffer *reply_buffer;   // holds `reply`
  Buffer *payload_buffer; // holds a write's data, or nullptr
  PendingRequest *next;   // in the queue, or among the free
};

// Told about every reply once it has been sent or dropped, in chains linked by `next`.
class SentListener {
public:
  virtual ~SentListener() = default;
  virtual void on_sent(PendingRequest *first, PendingRequest *last, uint32_t count) = 0;
};

class ReplyQueue {
public:
  ReplyQueue(transport::Transport &transport, SentListener &listener)
      : transport_(transport), listener_(listener) {}

  // Any thread. Cheap: nothing is sent before a flush.
  void push(PendingRequest *request);

  // Sends all that is queued, or leaves it to the thread that is sending already: that one looks
  // again before it stops. May block while the client does not read. Any thread.
  void flush();

  // Waits while more is queued than a client that reads could explain. For the thread that makes
  // more work, after a flush: the sender may be another thread, blocked by the client.
  void wait_for_room();

  // An estimate of what waits to be sent.
  size_t pending_bytes() const { return pending_bytes_.load(std::memory_order_relaxed); }

private:
  void send_queued();
  void send_chain(PendingRequest *first);

  transport::Transport &transport_;
  SentListener &listener_;
  // A stack: pushed one by one, taken whole, so no entry is compared after it was reused.
  std::atomic<PendingRequest *> top_{nullptr};
  std::atomic<size_t> pending_bytes_{0};
  // Calls of flush not yet taken care of; who raises it from 0 holds the send right.
  std::atomic<uint32_t> flushes_{0};
  bool broken_ = false; // a send failed: drop what follows. Guarded by the send right.
};

} // namespace asyncnbd::connection
