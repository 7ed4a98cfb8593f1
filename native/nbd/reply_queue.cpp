// See reply_queue.hpp.
#include "nbd/reply_queue.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/error_numbers.hpp"
#include "base/invariant.hpp"
#include "nbd/reply_encoding.hpp"

namespace asyncnbd::nbd {

namespace {

constexpr size_t MAX_BUFFERS = 256; // well under IOV_MAX, and on the stack
static_assert(MAX_BUFFERS > MAX_PIECES);
// A thread that has other things to do sends this much at most before it does them: a client
// that reads as fast as we send would keep it for ever.
constexpr size_t TURN_BYTES = 512 << 10;

// From here on it is cheaper to have the kernel refer to memory's pages than to have it copy them.
constexpr size_t MIN_PAGES_BYTES = 32 << 10;

// Pages that are in a pipe already.
bool is_piped(const PendingRequest &request) {
  return request.pages && has_data(request) && !request.encoded;
}

// Memory that is the disk itself: nothing else will ever be there, so it may be referred to even
// when the reply has left.
bool is_worth_referring_to(const PendingRequest &request) {
  return has_data(request) && !request.encoded &&
         request.answer.kind == backend::Answer::Kind::disk &&
         request.length_bytes >= MIN_PAGES_BYTES;
}

// What follows the header in one piece with it, or lent.
size_t data_bytes(const PendingRequest &request) {
  return has_data(request) ? request.length_bytes : 0;
}

size_t reply_bytes(const PendingRequest &request) {
  return request.encoded ? request.encoded->bytes : header_bytes(request) + data_bytes(request);
}

} // namespace

// The pieces of memory to send, joined where they lie side by side.
class Gathered {
public:
  bool has_room_for(const PendingRequest &request) const {
    return count_ + (request.encoded ? request.encoded->pieces.size() : 2) <= MAX_BUFFERS;
  }
  size_t count() const { return count_; }
  size_t bytes() const { return bytes_; }
  size_t all_bytes() const { return bytes_ + pages_.iov_len + piped_bytes_; }
  const iovec *buffers() const { return buffers_; }

  // Memory to be sent after the buffers, which then are not added to.
  const iovec &pages() const { return pages_; }
  transport::PagePipe *pipe() const { return pipe_; }
  bool is_closed() const { return pages_.iov_len > 0 || pipe_ != nullptr; }

  // Like add, but of data in pages that may be referred to.
  void add_pages(const PendingRequest &request, size_t skipped_bytes) {
    add(request.reply, header_bytes(request), &skipped_bytes);
    pages_ = {const_cast<uint8_t *>(request.answer.data) + skipped_bytes,
              data_bytes(request) - skipped_bytes};
  }

  void add_pipe(const PendingRequest &request, size_t skipped_bytes) {
    add(request.reply, header_bytes(request), &skipped_bytes);
    pipe_ = request.pages.get();
    piped_bytes_ = data_bytes(request) - skipped_bytes;
  }

  // A reply without its first `skipped_bytes`.
  void add(const PendingRequest &request, size_t skipped_bytes) {
    if (request.encoded) {
      for (const iovec &piece : request.encoded->pieces)
        add(static_cast<const uint8_t *>(piece.iov_base), piece.iov_len, &skipped_bytes);
      return;
    }
    if (has_data(request) && request.answer.data != nullptr) {
      add(request.reply, header_bytes(request), &skipped_bytes);
      add(request.answer.data, data_bytes(request), &skipped_bytes);
      return;
    }
    add(request.reply, reply_bytes(request), &skipped_bytes);
  }

private:
  void add(const uint8_t *memory, size_t length_bytes, size_t *skipped_bytes) {
    const size_t skipped = std::min(length_bytes, *skipped_bytes);
    *skipped_bytes -= skipped;
    auto *start = const_cast<uint8_t *>(memory) + skipped;
    length_bytes -= skipped;
    if (length_bytes == 0)
      return;
    bytes_ += length_bytes;
    if (count_ > 0) {
      iovec &last = buffers_[count_ - 1];
      if (static_cast<uint8_t *>(last.iov_base) + last.iov_len == start) {
        last.iov_len += length_bytes;
        return;
      }
    }
    buffers_[count_++] = {start, length_bytes};
  }

  iovec buffers_[MAX_BUFFERS];
  size_t count_ = 0;
  size_t bytes_ = 0;
  iovec pages_{};
  transport::PagePipe *pipe_ = nullptr;
  size_t piped_bytes_ = 0;
};

namespace {

// Where nobody may wait for the socket: to memory, behind what has been sent. False if that is
// not possible, and all of it lost.
bool take_out(PendingRequest *request, size_t sent_bytes) {
  const size_t header = header_bytes(*request);
  const size_t skipped_bytes = sent_bytes > header ? sent_bytes - header : 0;
  request->pages->take_out(request->data + skipped_bytes);
  if (!request->pages->is_empty())
    return false;
  request->pages.reset();
  return true;
}

} // namespace

void ReplyQueue::push(PendingRequest *request) {
  pending_bytes_.fetch_add(reply_bytes(*request), std::memory_order_relaxed);
  request->next = top_.load(std::memory_order_relaxed);
  // Sequentially consistent: the sender must see the reply's data; and either it sees this
  // entry when it has found the socket no longer full, or we see then that it is.
  while (!top_.compare_exchange_weak(request->next, request)) {
  }
}

void ReplyQueue::flush(WhenFull when_full) {
  if (when_full == WhenFull::wake_leader && is_full_.load())
    return;
  if (flushes_.fetch_add(1, std::memory_order_acq_rel) != 0)
    return;
  // Only with the send right: it may be about to be given up because the socket is full, and then
  // that must be known to the leader.
  if (is_full_.load())
    is_full_.store(false);
  send_while_asked(when_full);
}

bool ReplyQueue::send_borrowed(PendingRequest *request) {
  uint32_t nobody = 0;
  if (is_full_.load() || !flushes_.compare_exchange_strong(nobody, 1, std::memory_order_acq_rel))
    return false;
  borrowed_ = request;
  push(request);
  send_while_asked(WhenFull::wake_leader);
  return true;
}

// With the send right, which is given up at the end.
void ReplyQueue::send_while_asked(WhenFull when_full) {
  uint32_t seen;
  do {
    seen = flushes_.load(std::memory_order_acquire);
    if (!send_queued(when_full)) {
      stop_sending(when_full);
      return;
    }
    // Fails if another thread has flushed in between: its reply may have come too late for us.
  } while (!flushes_.compare_exchange_strong(seen, 0, std::memory_order_acq_rel));
}

// The socket is full, or our turn over. Who counts on us is served by the leader's next flush.
void ReplyQueue::stop_sending(WhenFull when_full) {
  keep_borrowed();
  is_full_.store(true);
  base::invariant(flushes_.exchange(0) > 0, "who stops sending has had the right to send");
  if (when_full == WhenFull::wake_leader)
    listener_.on_full();
}

// Its owner does not wait any longer.
void ReplyQueue::keep_borrowed() {
  PendingRequest *request = std::exchange(borrowed_, nullptr);
  if (request == nullptr)
    return;
  memcpy(request->data, request->answer.data, request->length_bytes);
  request->answer = {};
}

void ReplyQueue::take_pushed() {
  PendingRequest *newest = top_.exchange(nullptr);
  PendingRequest *chain = nullptr; // the stack gave the newest first
  for (PendingRequest *request = newest; request != nullptr;) {
    PendingRequest *next = request->next;
    request->next = chain;
    chain = request;
    request = next;
  }
  if (chain == nullptr)
    return;
  listener_.on_taken(chain);
  (unsent_ == nullptr ? unsent_ : last_unsent_->next) = chain;
  last_unsent_ = newest;
}

// Returns the number of bytes, or a negative errno.
ssize_t ReplyQueue::send_gathered(const Gathered &gathered, bool may_block) {
  ssize_t sent = 0;
  if (gathered.count() > 0) {
    sent = transport_.send(gathered.buffers(), gathered.count(), may_block, gathered.is_closed());
    if (sent < static_cast<ssize_t>(gathered.bytes()) || !gathered.is_closed())
      return sent;
  }
  const auto *data = static_cast<const uint8_t *>(gathered.pages().iov_base);
  const ssize_t more = gathered.pipe() != nullptr
                           ? transport_.send_pages(*gathered.pipe())
                           : transport_.send_pages(data, gathered.pages().iov_len);
  return transport::sent_in_all(sent, more); // what is wrong is still so at the next attempt
}

ssize_t ReplyQueue::send_or_wait(const Gathered &gathered) {
  if (listener_.delays_others()) {
    const bool has_room = !gathered.is_closed() || transport_.has_room();
    const ssize_t sent = has_room ? send_gathered(gathered, false) : -EAGAIN;
    if (sent != -EAGAIN)
      return sent;
    listener_.before_delay();
  }
  for (;;) {
    const ssize_t sent = send_gathered(gathered, true);
    if (sent != -EAGAIN)
      return sent;
    listener_.wait_for_room();
  }
}

// What the encryption has to say, besides replies. False: there is no room for it.
bool ReplyQueue::send_answers(bool may_block) {
  while (!broken_ && transport_.has_answers()) {
    const ssize_t error = transport_.send_answers(may_block);
    if (error == -EAGAIN && !may_block)
      return false;
    if (error == -EAGAIN)
      listener_.wait_for_room();
    else if (error < 0)
      return true; // the next receive finds out
  }
  return true;
}

// Whether a reply's data may leave as references, which is always waited for.
bool ReplyQueue::may_refer_to(const PendingRequest &request, const Gathered &before,
                              bool may_block) const {
  if (!is_piped(request) && !is_worth_referring_to(request))
    return false;
  return may_block ? transport_.can_move_pages()
                   : transport_.has_room_for_references(before.bytes() + reply_bytes(request));
}

// As much of what is unsent as may leave together. False: some of it is lost.
bool ReplyQueue::gather(Gathered &gathered, size_t most_bytes, bool may_block) {
  bool can_send = true;
  for (PendingRequest *request = unsent_; request != nullptr && gathered.has_room_for(*request) &&
                                          gathered.bytes() < most_bytes && !gathered.is_closed();
       request = request->next) {
    const size_t begun_bytes = request == unsent_ ? sent_bytes_ : 0;
    if (begun_bytes == 0 && !request->encoded)
      encode_header(*request);
    const bool refers = may_refer_to(*request, gathered, may_block);
    if (is_piped(*request) && !refers)
      can_send = take_out(request, begun_bytes) && can_send;
    if (refers && is_piped(*request))
      gathered.add_pipe(*request, begun_bytes);
    else if (refers)
      gathered.add_pages(*request, begun_bytes);
    else
      gathered.add(*request, begun_bytes);
  }
  return can_send;
}

// False if replies are left for later.
bool ReplyQueue::send_queued(WhenFull when_full) {
  const bool may_block = when_full == WhenFull::wait;
  size_t turn_bytes = may_block ? SIZE_MAX : TURN_BYTES;
  take_pushed();
  while (unsent_ != nullptr) {
    Gathered gathered;
    const bool can_send = gather(gathered, turn_bytes, may_block);
    const ssize_t sent = broken_     ? static_cast<ssize_t>(gathered.all_bytes())
                         : !can_send ? -EIO
                         : may_block ? send_or_wait(gathered)
                                     : send_gathered(gathered, false);
    if (sent == -EAGAIN)
      return false;
    if (sent < 0) {
      broken_ = true;
      if (!transport_.is_aborted())
        listener_.on_failure(std::string("cannot send replies: ") +
                             base::error_text(static_cast<int>(-sent)));
      transport_.abort(); // nobody listens: wake the reader too
      continue;
    }
    drop_sent(static_cast<size_t>(sent));
    turn_bytes -= std::min(turn_bytes, static_cast<size_t>(sent));
    if (turn_bytes == 0 && unsent_ != nullptr)
      return false;
  }
  return send_answers(may_block);
}

void ReplyQueue::drop_sent(size_t bytes) {
  PendingRequest *first = unsent_;
  PendingRequest *last = nullptr;
  uint32_t count = 0;
  size_t dropped_bytes = 0;
  all_sent_bytes_.store(sent_bytes() + bytes, std::memory_order_relaxed);
  for (bytes += sent_bytes_; unsent_ != nullptr && bytes >= reply_bytes(*unsent_);) {
    bytes -= reply_bytes(*unsent_);
    dropped_bytes += reply_bytes(*unsent_);
    last = unsent_;
    if (unsent_ == borrowed_)
      borrowed_ = nullptr;
    unsent_ = unsent_->next;
    count++;
  }
  base::invariant(unsent_ != nullptr || bytes == 0, "no more is sent than there is");
  sent_bytes_ = bytes;
  pending_bytes_.fetch_sub(dropped_bytes, std::memory_order_relaxed);
  if (unsent_ == nullptr)
    times_empty_.store(times_empty() + 1, std::memory_order_relaxed);
  if (count > 0) {
    last->next = nullptr;
    listener_.on_sent(first, count);
  }
}

} // namespace asyncnbd::nbd
