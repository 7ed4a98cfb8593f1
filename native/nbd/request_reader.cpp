// See request_reader.hpp.
#include "nbd/request_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error_numbers.hpp"
#include "host/log.hpp"
#include "nbd/reply_encoding.hpp"
#include "nbd/thread_cache.hpp"

namespace asyncnbd::nbd {

namespace {

// Room for two writes of 128 KiB with their headers; more does not stay in the L2 cache.
constexpr size_t INPUT_BYTES = (256 << 10) + (4 << 10);
constexpr size_t OUTPUT_BYTES = INPUT_BYTES;
// Less room than this is not worth a receive when a fresh buffer is at hand.
constexpr size_t MIN_RECEIVE_BYTES = 32 << 10;
// Payloads up to here are admitted as a whole, larger ones as they come.
constexpr size_t MAX_EARLY_BYTES = INPUT_BYTES;
// Plugins expect the alignment that malloc gives.
constexpr size_t REPLY_ALIGNMENT = 16;
// After this, a connection without traffic gives back what it keeps to be fast.
constexpr int IDLE_MS = 1000;
// How long a stopping server lets a client go on sending what it has begun.
constexpr auto STOP_GRACE = std::chrono::seconds(1);

} // namespace

RequestReader::RequestReader(Resources &resources, transport::Transport &transport,
                             ReplyQueue &replies, const ExportFacts &facts, backend::Maker &maker,
                             Admission &admission, const std::atomic<bool> &stop_requested,
                             schedule::Spinner spinner, WhenFull when_full, wire::ReplyStyle style)
    : resources_(resources), transport_(transport), replies_(replies), facts_(facts), maker_(maker),
      admission_(admission), stop_requested_(stop_requested), spinner_(spinner),
      when_full_(when_full), style_(style), receive_limit_bytes_(INPUT_BYTES) {}

RequestReader::~RequestReader() {
  if (input_ != nullptr)
    input_->unref();
  if (output_ != nullptr)
    output_->unref();
  destroy(free_);
  destroy(recycled_.load(std::memory_order_acquire));
}

void RequestReader::fill_thread_cache() {
  ThreadCache &cache = ThreadCache::of_this_thread();
  cache.add(std::exchange(free_, nullptr));
  cache.add(recycled_.exchange(nullptr, std::memory_order_acquire));
  if (cache.input == nullptr && input_ != nullptr && begin_ == end_ && input_->is_exclusive()) {
    cache.input = std::exchange(input_, nullptr);
    begin_ = end_ = 0;
  }
  if (cache.output == nullptr && output_ != nullptr && output_->content != base::Content::own &&
      output_->is_exclusive())
    cache.output = std::exchange(output_, nullptr);
}

void RequestReader::use_thread_cache() {
  ThreadCache &cache = ThreadCache::of_this_thread();
  if (free_ == nullptr)
    free_ = std::exchange(cache.requests, nullptr);
  if (input_ == nullptr && cache.input != nullptr) {
    input_ = std::exchange(cache.input, nullptr);
    input_->content = base::Content::foreign;
    pool_.adopt(*input_);
  }
  if (output_ == nullptr && cache.output != nullptr) {
    output_ = std::exchange(cache.output, nullptr);
    output_->content = base::Content::foreign;
    pool_.adopt(*output_);
  }
}

void RequestReader::release_all_but_input() {
  destroy(std::exchange(free_, nullptr));
  destroy(recycled_.exchange(nullptr, std::memory_order_acquire));
  if (output_ != nullptr && output_->is_exclusive())
    std::exchange(output_, nullptr)->unref();
  pool_.trim();
}

void RequestReader::release_idle_memory() {
  if (input_ != nullptr && begin_ == end_ && input_->is_exclusive()) {
    std::exchange(input_, nullptr)->unref();
    begin_ = end_ = 0;
  }
  release_all_but_input();
}

PendingRequest *RequestReader::next() {
  if (std::exchange(has_to_wait_, false))
    expects_input_ = true;
  for (;;) {
    if (transport_.is_aborted()) // nobody waits for replies to what has arrived
      return note_end(-ECONNABORTED, true), nullptr;
    const size_t header_bytes = wire::request_header_bytes(style_);
    if (wire::RequestHeader header; buffered_bytes() >= header_bytes) {
      if (!wire::decode_request(input_->data + begin_, style_, &header)) {
        admission_.on_failure("expected a request header");
        return nullptr;
      }
      begin_ += header_bytes;
      begun_requests_++;
      if (header.type == wire::NBD_CMD_DISC) {
        host::log_debug("client sent NBD_CMD_DISC");
        input_is_used_up_ = buffered_bytes() == 0;
        return nullptr;
      }
      return accept(header);
    }
    if (!make_room(header_bytes) || !receive(buffered_bytes() == 0))
      return nullptr;
  }
}

PendingRequest *RequestReader::accept(const wire::RequestHeader &header) {
  const uint64_t payload_bytes = wire::payload_bytes(header, style_);
  if (style_ == wire::ReplyStyle::extended && payload_bytes > wire::MAX_PAYLOAD_BYTES) {
    admission_.on_failure("a payload of " + std::to_string(payload_bytes) + " bytes is too long");
    return nullptr;
  }
  PendingRequest *request = new_request();
  if (request == nullptr) {
    admission_.on_failure("out of memory for requests");
    return nullptr;
  }
  request->cookie = header.cookie;
  request->offset = header.offset;
  request->length_bytes = header.length_bytes;
  request->type = header.type;
  request->flags = header.flags;
  request->error = check_request(header, style_, facts_);

  const bool reads = request->error == 0 && header.type == wire::NBD_CMD_READ;
  const bool writes = request->error == 0 && header.type == wire::NBD_CMD_WRITE;
  const auto data_bytes = static_cast<uint32_t>(reads || writes ? header.length_bytes : 0);
  const bool is_reserved = reads && reserve_read(request);
  const uint32_t besides_bytes =
      request->error == 0 ? admission_.bytes_besides(header.type, header.length_bytes) : 0;
  request->charge.full_bytes =
      MemoryAccount::REQUEST_BYTES + (is_reserved ? 0 : data_bytes) + besides_bytes;
  // More of a large payload is admitted when it comes: a client may never send it.
  admitted_bytes_ =
      writes && data_bytes > MAX_EARLY_BYTES ? MemoryAccount::FIRST_BYTES : data_bytes;
  if (!admission_.admit(request->charge, MemoryAccount::REQUEST_BYTES +
                                             (is_reserved ? 0 : admitted_bytes_) +
                                             (writes ? 0 : besides_bytes)))
    return withdraw(request);

  bool placed = place_reply(request, reads && !is_reserved ? data_bytes : 0);
  if (!placed && reads) {
    request->error = ENOMEM;
    placed = place_reply(request, 0);
  }
  if (!placed) {
    admission_.on_failure("out of memory for replies");
    return withdraw(request);
  }
  bool is_whole;
  if (header.type == wire::NBD_CMD_BLOCK_STATUS && request->error == 0) {
    ask_contexts(request);
    is_whole = payload_bytes == 0 || receive_query(request, payload_bytes);
  } else if (request->error == 0) {
    spared_bytes_ = 0;
    is_whole = payload_bytes == 0 || receive_payload(request);
    if (is_whole && writes && request->error == 0 &&
        !admit_besides(request, besides_bytes - spared_bytes_))
      is_whole = false;
  } else {
    is_whole = skip(payload_bytes);
  }
  if (is_whole)
    return request;
  request->reply_buffer->unref();
  return withdraw(request);
}

// False: its data need memory.
bool RequestReader::reserve_read(PendingRequest *request) {
  const uint8_t *data = admission_.reserve(*request).data;
  if (data == nullptr)
    return false;
  request->is_reserved = true;
  request->answer = {backend::Answer::Kind::disk, data};
  return true;
}

PendingRequest *RequestReader::withdraw(PendingRequest *request) {
  admission_.withdraw(request->charge);
  recycle(request, request);
  return nullptr;
}

PendingRequest *RequestReader::new_request() {
  if (free_ == nullptr) // the acquire pairs with recycle: the sender has finished with them
    free_ = recycled_.exchange(nullptr, std::memory_order_acquire);
  PendingRequest *request = free_;
  if (request != nullptr)
    free_ = request->next;
  else if ((request = resources_.requests.make()) == nullptr)
    return nullptr;
  request->reset();
  request->received_at = received_at_;
  request->completers.reset(maker_);
  return request;
}

void RequestReader::recycle(PendingRequest *first, PendingRequest *last) {
  last->next = recycled_.load(std::memory_order_relaxed);
  while (!recycled_.compare_exchange_weak(last->next, first, std::memory_order_release,
                                          std::memory_order_relaxed)) {
  }
}

// Finds memory for the reply's header and the data behind it. Small replies share a buffer, one
// behind the other, and leave as one piece.
bool RequestReader::place_reply(PendingRequest *request, uint32_t data_bytes) {
  // The header ends where the data begins, which keeps the alignment.
  const size_t header_bytes = data_header_bytes(style_);
  const size_t header_room = (header_bytes + REPLY_ALIGNMENT - 1) & ~(REPLY_ALIGNMENT - 1);
  const size_t header_start = header_room - header_bytes;
  request->style = style_;
  const size_t needed = header_room + data_bytes;
  if (needed > OUTPUT_BYTES) {
    request->reply_buffer = pool_.get(needed);
    if (request->reply_buffer == nullptr)
      return false;
    request->reply = request->reply_buffer->data + header_start;
  } else {
    if (output_ != nullptr && output_->is_exclusive())
      output_used_ = 0;
    const bool is_unfit =
        data_bytes > 0 && output_ != nullptr && output_->content > base::Content::own;
    if (output_ == nullptr || is_unfit || output_->capacity_bytes - output_used_ < needed) {
      base::Buffer *fresh = pool_.get(OUTPUT_BYTES);
      if (fresh == nullptr)
        return false;
      if (output_ != nullptr)
        output_->unref();
      output_ = fresh;
      output_used_ = 0;
    }
    output_->ref();
    request->reply_buffer = output_;
    request->reply = output_->data + output_used_ + header_start;
    output_used_ += (needed + REPLY_ALIGNMENT - 1) & ~(REPLY_ALIGNMENT - 1);
    output_used_ = std::min(output_used_, output_->capacity_bytes);
  }
  if (data_bytes > 0) {
    request->reply_buffer->content = std::max(request->reply_buffer->content, base::Content::own);
    request->data = request->reply - header_start + header_room;
  }
  return true;
}

// Makes sure that `bytes` from begin_ on fit into the input buffer, and that there is room for
// more input.
bool RequestReader::make_room(size_t bytes) {
  if (input_ != nullptr && begin_ == end_ && input_->is_exclusive())
    begin_ = end_ = 0;
  const size_t needed = std::max(bytes, buffered_bytes() + MIN_RECEIVE_BYTES);
  if (input_ != nullptr && input_->capacity_bytes - begin_ >= needed)
    return true;

  const size_t kept = buffered_bytes();
  if (input_ != nullptr && input_->is_exclusive()) {
    memmove(input_->data, input_->data + begin_, kept);
  } else {
    base::Buffer *fresh = get_for_input(INPUT_BYTES); // requests still use the old one
    if (fresh == nullptr) {
      admission_.on_failure("out of memory for receiving requests");
      return false;
    }
    if (input_ != nullptr) {
      memcpy(fresh->data, input_->data + begin_, kept);
      input_->unref();
    }
    input_ = fresh;
  }
  begin_ = 0;
  end_ = kept;
  return true;
}

// Receives more into the input buffer; there must be room. `between_requests`: no request has
// been begun, so this is where a stopping server leaves.
bool RequestReader::receive(bool between_requests) {
  size_t room = std::min(input_->capacity_bytes - end_, receive_limit_bytes_);
  receive_limit_bytes_ = INPUT_BYTES;
  ssize_t received = receive_into({input_->data + end_, room}, between_requests);
  if (received <= 0)
    return false;
  end_ += static_cast<size_t>(received);
  return true;
}

ssize_t RequestReader::receive_into(const Room &room, bool between_requests) {
  if (between_requests && stop_deadline_ && std::chrono::steady_clock::now() >= *stop_deadline_)
    return -ESHUTDOWN;
  if (!stop_deadline_ && stop_requested_.load(std::memory_order_relaxed))
    stop_deadline_ = std::chrono::steady_clock::now() + STOP_GRACE;
  ssize_t received = -EAGAIN;
  while (received == -EAGAIN) {
    // All that was asked so far has been answered or is being worked on: let the client know.
    replies_.flush(when_full_);
    if (!expects_input_ && waits_in_poller(between_requests))
      return -EAGAIN;
    received = receive_and_answer(room);
    if (received != -EAGAIN)
      break;
    if (waits_in_poller(between_requests))
      return -EAGAIN;
    if (!stop_deadline_ && !replies_.is_full())
      spinner_.spin([&] {
        received = receive_and_answer(room);
        return received != -EAGAIN;
      });
    if (received == -EAGAIN)
      if (const int reason = wait_for_more(room, between_requests))
        return reason;
  }
  if (clock_ != nullptr)
    received_at_ = clock_->now();
  // The one only a pipe has, the other only the memory of a file.
  if (received <= 0 && received != -ENOBUFS && received != -EFAULT)
    note_end(received, between_requests);
  return received;
}

// Before anything is waited for: what came may be no request, but ask for an answer all the same.
ssize_t RequestReader::receive_and_answer(const Room &room) {
  const ssize_t received = room.pages != nullptr
                               ? transport_.receive_pages(*room.pages, room.capacity_bytes)
                               : transport_.receive(room.data, room.capacity_bytes, room.next);
  received_bytes_ += received > 0 ? static_cast<uint64_t>(received) : 0;
  expects_input_ = !transport_.receives_all_there_is() ||
                   received == static_cast<ssize_t>(room.capacity_bytes + room.next.iov_len);
  if (received == -EAGAIN && transport_.has_answers())
    replies_.flush(when_full_);
  return received;
}

void RequestReader::note_end(ssize_t received, bool between_requests) {
  client_has_left_ = true;
  input_is_used_up_ = true;
  if (transport_.is_aborted()) // by us
    return;
  if (received < 0)
    admission_.on_failure(std::string("cannot receive requests: ") +
                          base::error_text(static_cast<int>(-received)));
  else if (between_requests)
    host::log_debug("client disconnected without NBD_CMD_DISC");
  else
    admission_.on_failure("disconnected in the middle of a request");
}

bool RequestReader::waits_in_poller(bool between_requests, bool has_idled) {
  has_to_wait_ = between_requests && !stop_deadline_ && !replies_.is_full() &&
                 admission_.waits_in_poller(has_idled);
  return has_to_wait_;
}

// Nothing has arrived: waits for it. Returns 0 to look again, or the reason not to: -EAGAIN to wait
// elsewhere, -ESHUTDOWN to leave, -ENOBUFS if the client is too slow to have a pipe meanwhile.
int RequestReader::wait_for_more(const Room &room, bool between_requests) {
  if (!stop_deadline_) {
    const transport::Wait result = wait_for_client(room, between_requests);
    if (result == transport::Wait::stopping)
      stop_deadline_ = std::chrono::steady_clock::now() + STOP_GRACE;
    if (has_to_wait_)
      return -EAGAIN;
    return room.pages != nullptr && result == transport::Wait::timed_out ? -ENOBUFS : 0;
  }
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      *stop_deadline_ - std::chrono::steady_clock::now());
  if (!between_requests && left.count() > 0 &&
      transport_.wait({.input = true, .room = replies_.is_full()},
                      static_cast<int>(left.count())) != transport::Wait::timed_out)
    return 0;
  input_is_used_up_ = between_requests;
  return -ESHUTDOWN;
}

transport::Wait RequestReader::wait_for_client(const Room &room, bool between_requests) {
  const transport::Wanted wanted{.input = true, .room = replies_.is_full(), .stop = true};
  admission_.waits_here();
  const bool owes_input = !between_requests;
  for (;;) {
    const transport::Wait result = admission_.wait(wanted, IDLE_MS, owes_input);
    if (result != transport::Wait::timed_out)
      return result;
    const bool is_all = admission_.has_idled();
    release_all_but_input(); // this is in the middle of receiving into that
    if (room.pages != nullptr || waits_in_poller(between_requests, true))
      return result;
    if (is_all)
      return admission_.wait(wanted, -1, owes_input);
  }
}

} // namespace asyncnbd::nbd
