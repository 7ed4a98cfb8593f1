// Replies on their way to the client: queued by any thread, sent together by whichever thread
// holds the send right.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "nbd/pending_request.hpp"
#include "transport/transport.hpp"

namespace asyncnbd::nbd {

class Gathered;

class ReplyListener {
public:
  virtual ~ReplyListener() = default;
  // Replies are about to be sent, a chain linked by `next`. By who has the send right, which has
  // just taken them from the queue.
  virtual void on_taken(const PendingRequest *first) { (void)first; }
  // Replies have been sent or dropped: a chain linked by `next`.
  virtual void on_sent(PendingRequest *first, uint32_t count) = 0;
  // Replies are left behind that the leader must send.
  virtual void on_full() = 0;
  // Whether others wait for the calling thread, so that it must say before it waits for room.
  virtual bool delays_others() const { return false; }
  virtual void before_delay() {}
  // Replies cannot be sent any more. Any thread.
  virtual void on_failure(const std::string &reason) { (void)reason; }
  // A send has waited in vain: returns when it is to be tried again.
  virtual void wait_for_room() {}
};

// What a thread that sends does when the socket is full.
enum class WhenFull {
  wait,        // until the client reads
  wake_leader, // leave the rest to the connection's leader, who is woken
  return_early // it is the leader, and knows by is_full
};

class ReplyQueue {
public:
  ReplyQueue(transport::Transport &transport, ReplyListener &listener)
      : transport_(transport), listener_(listener) {}

  // Any thread. Cheap: nothing is sent before a flush.
  void push(PendingRequest *request);

  // Sends all that is queued, or leaves it to the thread that is sending already: that one looks
  // again before it stops. Any thread.
  void flush(WhenFull when_full);

  // Replies wait for the leader and room in the socket.
  bool is_full() const { return is_full_.load(); }

  // Sends a read whose answer is borrowed, without waiting. False, and nothing
  // is done, if another thread is sending.
  bool send_borrowed(PendingRequest *request);

  // For who sees to it that the client goes on: what it has taken, and how often that was all there
  // was.
  uint64_t sent_bytes() const { return all_sent_bytes_.load(std::memory_order_relaxed); }
  uint64_t times_empty() const { return times_empty_.load(std::memory_order_relaxed); }

  // An estimate of what waits to be sent.
  size_t pending_bytes() const { return pending_bytes_.load(std::memory_order_relaxed); }

private:
  void send_while_asked(WhenFull when_full);
  void stop_sending(WhenFull when_full);
  bool gather(Gathered &gathered, size_t most_bytes, bool may_block);
  bool may_refer_to(const PendingRequest &request, const Gathered &before, bool may_block) const;
  bool send_queued(WhenFull when_full);
  ssize_t send_gathered(const Gathered &gathered, bool may_block);
  ssize_t send_or_wait(const Gathered &gathered);
  bool send_answers(bool may_block);
  void keep_borrowed();
  void take_pushed();
  void drop_sent(size_t bytes);

  transport::Transport &transport_;
  ReplyListener &listener_;
  // A stack: pushed one by one, taken whole, so no entry is compared after it was reused. Pairs
  // with itself and with is_full_: see push.
  std::atomic<PendingRequest *> top_{nullptr};
  std::atomic<size_t> pending_bytes_{0}; // an estimate, pairs with nothing
  // Calls of flush not yet taken care of; who raises it from 0 holds the send right, by an acquire
  // that pairs with the release of its last owner, who sets it to 0.
  std::atomic<uint32_t> flushes_{0};
  // The socket was full; who would pass the rest on need not try.
  std::atomic<bool> is_full_{false};

  // Guarded by the send right.
  PendingRequest *unsent_ = nullptr; // in the order in which they leave
  PendingRequest *last_unsent_ = nullptr;
  size_t sent_bytes_ = 0;              // of the first of them
  PendingRequest *borrowed_ = nullptr; // one of them, or just pushed: see send_borrowed
  // Changed by who has the send right; for others estimates, which pair with nothing.
  std::atomic<uint64_t> all_sent_bytes_{0};
  std::atomic<uint64_t> times_empty_{0};
  bool broken_ = false; // a send failed: drop what follows
};

} // namespace asyncnbd::nbd
