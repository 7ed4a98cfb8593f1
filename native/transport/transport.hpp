// A connected stream as the transmission loop uses it: receive what is there, wait for more,
// send a list of buffers whole. Over sockets and pipes, encrypted or not.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/mutex.hpp"
#include "transport/secure_stream.hpp"

namespace asyncnbd::transport {

class PagePipe;
class PagePipes;

enum class Wait { readable, writable, stopping, woken, hung_up, timed_out };

// What ends a wait, besides wake and the end of the stream.
struct Wanted {
  bool input = false;
  bool room = false; // to send
  bool stop = false; // the server stops
};

class Transport final : private RawStream {
public:
  // Takes ownership of both descriptors, which may be the same socket. `stop_fd` (not owned, may
  // be -1) becomes readable when the server stops. `secure`: what TLS has been negotiated, or
  // nullptr.
  Transport(PagePipes &pipes, int in_fd, int out_fd, int stop_fd,
            std::unique_ptr<SecureStream> secure = nullptr);
  ~Transport() override;
  Transport(const Transport &) = delete;
  Transport &operator=(const Transport &) = delete;

  // Receives up to `capacity_bytes` of what has arrived. Returns the number of bytes, 0 at the
  // end of the stream, -EAGAIN if nothing has arrived, another negative errno on failure. What
  // follows these bytes may be put into `next`. One thread at a time.
  ssize_t receive(void *data, size_t capacity_bytes, iovec next = {});

  // As receive, but uncopied (see PagePipe::put_arrived). Only if can_move_pages.
  ssize_t receive_pages(PagePipe &pages, size_t capacity_bytes);

  // False: the system has no descriptor left for what wake needs.
  bool is_usable() const { return wake_fd_ != -1; }

  // Waits until something wanted is there, or wake is called. If input is wanted, its end and
  // errors count as input; if not, and `heed_hang_up`, the peer's hanging up ends the wait, and
  // the next one too. timeout_ms < 0 waits for ever.
  Wait wait(Wanted wanted, int timeout_ms, bool heed_hang_up = false);

  // Ends a wait, the present one or else the next. Any thread.
  void wake();

  // For waiting elsewhere, together with others: input is to be looked for at one of these
  // descriptors, and each `wake` makes the other readable. Until `close`.
  bool can_be_polled() const { return is_socket_ && wake_fd_ != -1; }
  int input_fd() const { return in_fd_; }
  int wake_fd() const { return wake_fd_; }

  // Whether a receive that got less than it could has left no byte behind; except, rarely, behind
  // descriptors that are passed and urgent data. The stream's end may be there.
  bool receives_all_there_is() const { return is_socket_ && !secure_; }

  // Of what was sent, how much a peer on this machine has not read; 0 of others. Any thread.
  size_t unread_bytes() const;

  // Sends what it can of the buffers at once. `may_block`: waits a second for that to be something.
  // `more`: the next send follows at once. Returns the number of bytes, -EAGAIN if there has been
  // no room, or another negative errno. One thread at a time; concurrent with receive.
  ssize_t send(const iovec *buffers, size_t count, bool may_block, bool more = false);

  // Sends memory from where it lies, uncopied (see PagePipe), and waits as a send that may block;
  // as send does where that cannot be.
  ssize_t send_pages(const uint8_t *data, size_t length_bytes);
  // Only if can_move_pages.
  ssize_t send_pages(PagePipe &pages);
  // See SecureStream.
  bool has_answers() const { return secure_ && secure_->has_answers(); }
  ssize_t send_answers(bool may_block) { return secure_->send_answers(*this, may_block); }

  // By whoever sends: until there is room, or a send is to be tried to see what is wrong.
  void wait_for_room(int timeout_ms) const;
  // Whether a send would not have to wait, unless it is large.
  bool has_room() const;
  bool can_move_pages() const { return is_socket_ && !secure_; }

  // Makes every receive, wait and send fail soon, now and later. Any thread.
  void abort();

  // Closes the descriptors. With `linger`, first lets the peer read what was sent: closing a
  // socket that holds unread input would make the kernel drop our last replies. Bounded in time.
  void close(bool linger);

  bool is_aborted() const { return aborted_.load(std::memory_order_relaxed); }

private:
  ssize_t receive_raw(void *data, size_t capacity_bytes) override;
  ssize_t receive_both(iovec first, iovec next);
  ssize_t send_raw(const iovec *buffers, size_t count, bool may_block) override;
  ssize_t send_with(const iovec *buffers, size_t count, bool may_block, int more);
  bool has_input() const;
  bool wait_writable(int timeout_ms) const;
  void drain();

  PagePipes &pipes_;
  int in_fd_;
  int out_fd_;
  const int stop_fd_;
  const int wake_fd_;
  int abort_fd_ = -1; // an eventfd, for pipes: they have no shutdown(2)
  const bool is_socket_;
  const bool is_local_; // a unix socket
  const std::unique_ptr<SecureStream> secure_;
  std::atomic<bool> aborted_{false}; // pairs with nothing: the descriptors tell who waits
  // Other threads must not touch a descriptor whose number someone else has now.
  mutable base::Mutex<base::LockRank::transport_end> closing_;
};

// Whether fd is a socket (as opposed to a pipe, a terminal or a file).
bool is_socket(int fd);

// Sets or clears O_NONBLOCK. False, with errno set, on failure.
bool set_nonblocking(int fd, bool nonblocking);

} // namespace asyncnbd::transport
