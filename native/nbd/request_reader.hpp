// Bytes from the client to requests: a state machine that never waits. Receives as much as there is
// at once and hands out one request after the other, a write's payload where it arrived if
// possible.
#pragma once

#include <string>

#include "nbd/check.hpp"
#include "nbd/input_buffer.hpp"
#include "nbd/request_pool.hpp"
#include "transport/transport.hpp"
#include "wire/commands.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::nbd {

// Says where the data of requests may be, and when there is memory for another one.
class Admission {
public:
  virtual ~Admission() = default;
  // Adds to what a request takes. False: not now; the leader is woken when to try again.
  virtual bool admit(MemoryCharge &charge, uint64_t bytes) = 0;
  // There will be no such request after all.
  virtual void withdraw(const MemoryCharge &charge) = 0;
  // See backend::Backend.
  virtual backend::Reservation reserve(backend::Request &request) = 0;
  virtual void unreserve(backend::Request &request) = 0;
  virtual uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const = 0;
  // Why the connection ends, if not by the client's wish: "it …", of the client.
  virtual void on_failure(const std::string &reason) { (void)reason; }
};

// Belongs to whoever leads the connection.
class RequestReader {
public:
  RequestReader(Resources &resources, transport::Transport &transport, RequestPool &requests,
                const ExportFacts &facts, Admission &admission,
                wire::ReplyStyle style = wire::ReplyStyle::simple);
  ~RequestReader();
  RequestReader(const RequestReader &) = delete;
  RequestReader &operator=(const RequestReader &) = delete;

  enum class Outcome {
    request,
    needs_input,  // `receive` is to be called, before or after a wait
    needs_memory, // which admission has not given; to be called again
    ended,        // the client said NBD_CMD_DISC or left, the stream broke, or `end` was called
  };
  // Goes on with what has been received. With Outcome::request, `*request` is the next one, with
  // its `error` set if it must be refused (a refused write's payload has been skipped).
  Outcome next(PendingRequest **request);

  // After Outcome::needs_memory: whether `next` can go on, as there is memory now.
  bool admits();

  enum class Received {
    something, // or it is to be received elsewhere; `next` may go on
    nothing,   // there was nothing
    end,       // and `next` says that it has ended
  };
  // Receives what there is, after `next` has said that it needs input.
  Received receive();

  // Nothing more is read. `leaves_input`: there may be something that the client has sent.
  void end(bool leaves_input);

  // No request has been begun: this is where the server may leave.
  bool is_between_requests() const { return state_ == State::header && input_.bytes() == 0; }
  // A payload is being received into a pipe, which a client that is slow is not to keep:
  bool is_in_pages() const { return state_ == State::paged; }
  void leave_pages();

  // The last `receive` may not have received all there was.
  bool may_have_left_input() const { return may_have_left_input_; }

  // Whether another request has arrived already, at least its beginning.
  bool has_more() const { return input_.bytes() > 0; }
  // As many, if none of them is a write.
  size_t arrived_requests() const { return input_.bytes() / wire::request_header_bytes(style_); }

  // The client closed its end, or the stream broke: nobody waits for replies.
  bool client_has_left() const { return client_has_left_; }
  // Whether input may be left unread, so that closing must not be abrupt.
  bool has_unread_input() const { return !input_is_used_up_; }

  // For who sees to it that the client goes on: what it has sent, and in how many requests.
  uint64_t received_bytes() const { return received_bytes_; }
  uint64_t begun_requests() const { return begun_requests_; }

  // From now on, requests say when they were received: the clock is looked at once a receive.
  void time_requests(const base::Clock &clock) { clock_ = &clock; }

  // Before the connection waits without a thread, and when one has come back to it: what is not in
  // use goes with the thread.
  void fill_thread_cache() { input_.fill_thread_cache(); }
  void use_thread_cache() { input_.use_thread_cache(); }
  // Has waited for long, between requests: gives memory back to the system.
  void release_idle_memory() { input_.release_idle_memory(); }

private:
  // What the next bytes are, or what is missing besides bytes.
  enum class State : uint8_t {
    header,   // of a request
    placing,  // none: once there is memory for what follows the header, it gets its place
    query,    // of a block status
    buffered, // a payload that is used where it arrives
    placed,   // a payload that is received into request->data
    paged,    // a payload that stays in pages
    skipped,  // a payload that nobody wants
    whole,    // none: a request has all that belongs to it
    ended,
  };
  // For what is received.
  struct Room {
    uint8_t *data; // nullptr: it is in `pages`
    size_t capacity_bytes;
    iovec next{}; // for what follows, see Transport::receive
    transport::PagePipe *pages = nullptr;
  };

  void enter(State state);
  void fail(const std::string &reason);
  bool go_on();
  bool read_header();
  bool begin(const wire::RequestHeader &header);
  bool reserve_read();
  bool place();
  void ask_contexts();
  bool read_query();
  bool take_query(const uint8_t *query);
  bool place_payload();
  bool place_in(const backend::Reservation &reservation);
  bool place_in_pages();
  bool place_in_buffer();
  bool place_elsewhere(size_t position);
  bool is_worth_pages();
  bool read_buffered();
  bool read_placed();
  bool read_paged();
  bool skip(uint64_t bytes);
  bool read_skipped();
  bool finish_payload();
  void drop_incoming();
  bool make_room(size_t bytes);
  Room room() const;
  void add_received(size_t bytes);
  void leave_place();
  void note_end(ssize_t received);
  void expect_large_payload();
  size_t header_bytes() const { return wire::request_header_bytes(style_); }
  uint32_t length_bytes() const { return static_cast<uint32_t>(incoming_->length_bytes); }

  Resources &resources_;
  transport::Transport &transport_;
  RequestPool &requests_;
  const ExportFacts &facts_;
  Admission &admission_;
  const wire::ReplyStyle style_;
  const base::Clock *clock_ = nullptr; // nullptr: requests are not timed
  base::Time received_at_{};

  State state_ = State::header;
  InputBuffer input_;
  size_t receive_limit_bytes_ = InputBuffer::BYTES; // of the next receive

  PendingRequest *incoming_ = nullptr; // from its header until it is whole
  uint64_t wanted_bytes_ = 0;          // of memory; until it is there, nothing goes on
  uint32_t besides_bytes_ = 0;         // of a write: what the backend takes when all has come
  uint64_t spared_bytes_ = 0;          // that it takes less, as the backend makes no copy
  uint64_t payload_bytes_ = 0;         // that follow the header
  uint64_t skip_bytes_ = 0;            // State::skipped: that are left of it
  size_t position_ = 0;                // State::placed: so much of it is there
  size_t admitted_bytes_ = 0;          // State::placed: and so much may come

  unsigned copied_payloads_ = 0; // so many are received without trying to keep them in pages
  bool takes_pages_ = true;      // the backend, until it says otherwise
  bool has_place_ = false;       // the backend for payloads, as it has said of the last one
  bool may_have_left_input_ = true;
  bool input_is_used_up_ = false;
  bool client_has_left_ = false;
  uint64_t received_bytes_ = 0; // since the beginning
  uint64_t begun_requests_ = 0;
};

} // namespace asyncnbd::nbd
