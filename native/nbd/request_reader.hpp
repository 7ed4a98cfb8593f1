// Bytes from the client to requests: receives as much as there is at once and hands out one
// request after the other, a write's payload where it arrived if possible.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>
#include <string>

#include "nbd/check.hpp"
#include "nbd/reply_queue.hpp"
#include "nbd/resources.hpp"
#include "schedule/spinner.hpp"
#include "transport/transport.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::nbd {

// Says where the data of requests may be, and when there is memory for another one.
class Admission {
public:
  virtual ~Admission() = default;
  // Adds to what a request takes. May wait, for the replies of others to leave. False: the
  // connection is to end instead.
  virtual bool admit(MemoryCharge &charge, uint64_t bytes) = 0;
  // There will be no such request after all.
  virtual void withdraw(const MemoryCharge &charge) = 0;
  // Whether the reader, when it has to wait for the client's next request, is to return instead.
  // `has_idled`: it has waited for long already.
  virtual bool waits_in_poller(bool has_idled) = 0;
  // It will wait for the client here.
  virtual void waits_here() = 0;
  // It has waited for long: memory that is not in use is to go. False: requests are in flight, so
  // that there may be more later.
  virtual bool has_idled() { return true; }
  // As Transport::wait, but may come back earlier, and a client that is too slow is cut.
  // `owes_input`: it has begun a request.
  virtual transport::Wait wait(transport::Wanted wanted, int timeout_ms, bool owes_input) = 0;
  // See backend::Backend.
  virtual backend::Reservation reserve(backend::Request &request) = 0;
  virtual void unreserve(backend::Request &request) = 0;
  // Why the connection ends, if not by the client's wish: "it …", of the client.
  virtual void on_failure(const std::string &reason) { (void)reason; }
  virtual uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const = 0;
};

// Belongs to whoever leads the connection; only recycle is for other threads.
class RequestReader {
public:
  // Before it waits for the client, the reader has all replies sent; if it is to come back when
  // the socket is full, it goes on reading meanwhile.
  RequestReader(Resources &resources, transport::Transport &transport, ReplyQueue &replies,
                const ExportFacts &facts, backend::Maker &maker, Admission &admission,
                const std::atomic<bool> &stop_requested, schedule::Spinner spinner,
                WhenFull when_full, wire::ReplyStyle style = wire::ReplyStyle::simple);
  ~RequestReader();
  RequestReader(const RequestReader &) = delete;
  RequestReader &operator=(const RequestReader &) = delete;

  // The next request, with `error` set if it must be refused (a refused write's payload has been
  // skipped). nullptr when there will be none: the client said NBD_CMD_DISC or left, the stream
  // broke, or the server stops; or when `has_to_wait`.
  PendingRequest *next();

  // The last `next` found no request. When the client has sent something, or there is another
  // reason to look again, the next one goes on.
  bool has_to_wait() const { return has_to_wait_; }

  // Before the connection waits without a thread, and when one has come back to it: what is not in
  // use goes with the thread.
  void fill_thread_cache();
  void use_thread_cache();

  // Has waited for long: gives memory back to the system.
  void release_idle_memory();

  // Whether another request has arrived already, at least its beginning.
  bool has_more() const { return buffered_bytes() > 0; }
  // As many, if none of them is a write.
  size_t arrived_requests() const { return buffered_bytes() / wire::request_header_bytes(style_); }

  // The client closed its end, or the stream broke: nobody waits for replies.
  bool client_has_left() const { return client_has_left_; }

  // For who sees to it that the client goes on: what it has sent, and in how many requests.
  uint64_t received_bytes() const { return received_bytes_; }
  uint64_t begun_requests() const { return begun_requests_; }

  // Whether input may be left unread, so that closing must not be abrupt.
  bool has_unread_input() const { return !input_is_used_up_; }

  // From now on, requests say when they were received: the clock is looked at once a receive.
  void time_requests(const base::Clock &clock) { clock_ = &clock; }

  // Takes back requests, all there are before the reader's end, in a chain, when nothing of them is
  // needed any more. Any thread.
  void recycle(PendingRequest *first, PendingRequest *last);

  // For what replies are made of. Any thread.
  base::BufferPool &buffers() { return pool_; }

private:
  // For what is received.
  struct Room {
    uint8_t *data; // nullptr: it is in `pages`
    size_t capacity_bytes;
    iovec next{}; // for what follows, see Transport::receive
    transport::PagePipe *pages = nullptr;
  };

  PendingRequest *accept(const wire::RequestHeader &header);
  PendingRequest *new_request();
  bool reserve_read(PendingRequest *request);
  PendingRequest *withdraw(PendingRequest *request);
  bool place_reply(PendingRequest *request, uint32_t data_bytes);
  void ask_contexts(PendingRequest *request);
  bool receive_query(PendingRequest *request, uint64_t payload_bytes);
  bool take_query(PendingRequest *request, const uint8_t *query, size_t length_bytes);
  bool receive_payload(PendingRequest *request);
  bool receive_in_place(PendingRequest *request, const backend::Reservation &reservation);
  bool skip_without_place(PendingRequest *request, uint64_t bytes);
  bool receive_large_payload(PendingRequest *request, transport::PagePipe::Owner begun = nullptr);
  bool is_worth_pages(uint32_t length_bytes);
  bool receive_pages(PendingRequest *request);
  base::Buffer *get_for_input(size_t bytes);
  bool receive_elsewhere(PendingRequest *request, size_t position = 0);
  bool admit_besides(PendingRequest *request, uint64_t bytes);
  bool admit_more(PendingRequest *request, size_t position);
  void expect_large_payload();
  bool skip(uint64_t bytes);
  bool make_room(size_t bytes);
  bool receive(bool between_requests);
  ssize_t receive_into(const Room &room, bool between_requests);
  ssize_t receive_and_answer(const Room &room);
  void note_end(ssize_t received, bool between_requests);
  void release_all_but_input();
  bool waits_in_poller(bool between_requests, bool has_idled = false);
  int wait_for_more(const Room &room, bool between_requests);
  transport::Wait wait_for_client(const Room &room, bool between_requests);
  size_t buffered_bytes() const { return end_ - begin_; }

  Resources &resources_;
  transport::Transport &transport_;
  ReplyQueue &replies_;
  const ExportFacts &facts_;
  backend::Maker &maker_;
  Admission &admission_;
  const std::atomic<bool> &stop_requested_;
  schedule::Spinner spinner_;
  const WhenFull when_full_;
  const wire::ReplyStyle style_;

  const base::Clock *clock_ = nullptr; // nullptr: requests are not timed
  base::Time received_at_{};

  base::BufferPool pool_{resources_.free_memory};
  base::Buffer *input_ = nullptr; // bytes [begin_, end_) are received and not yet parsed
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t receive_limit_bytes_;
  base::Buffer *output_ = nullptr; // replies are placed from output_used_ on
  size_t output_used_ = 0;

  PendingRequest *free_ = nullptr;
  std::atomic<PendingRequest *> recycled_{nullptr}; // release in recycle, acquire in new_request

  uint64_t received_bytes_ = 0; // since the beginning
  uint64_t begun_requests_ = 0;
  size_t admitted_bytes_ = 0;    // of the payload that is being received
  uint64_t spared_bytes_ = 0;    // that its request takes less, as the backend makes no copy
  unsigned copied_payloads_ = 0; // so many are received without trying to keep them in pages
  bool takes_pages_ = true;      // the backend, until it says otherwise
  bool has_place_ = false;       // the backend for payloads, as it has said of the last one
  bool expects_input_ = true;    // to be there, when it looks for it
  bool has_to_wait_ = false;
  bool input_is_used_up_ = false;
  bool client_has_left_ = false;
  std::optional<std::chrono::steady_clock::time_point> stop_deadline_;
};

} // namespace asyncnbd::nbd
