// A connected stream for the transmission loop: receives what is there, waits for more, sends lists
// of buffers. Over sockets and pipes, encrypted or not.
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
  // Takes ownership of both descriptors, which may be the same socket. `stop_fd` (not owned, may be
  // -1) becomes readable when the server stops. `secure`: the negotiated TLS, or nullptr.
  Transport(PagePipes &pipes, int in_fd, int out_fd, int stop_fd,
            std::unique_ptr<SecureStream> secure = nullptr);
  ~Transport() override;
  Transport(const Transport &) = delete;
  Transport &operator=(const Transport &) = delete;

  // Receives up to `capacity_bytes` of what has arrived. Returns the number of bytes, 0 at the end
  // of the stream, -EAGAIN if nothing has arrived, or another negative errno on failure. The bytes
  // that follow may be put into `next`. One thread at a time.
  ssize_t receive(void *data, size_t capacity_bytes, iovec next = {});

  // As receive, but uncopied (see PagePipe::put_arrived). Only if can_move_pages.
  ssize_t receive_pages(PagePipe &pages, size_t capacity_bytes);

  // False: the system has no descriptor left for wake.
  bool is_usable() const { return wake_fd_ != -1; }

  // Waits for something wanted, or for wake. If input is wanted, its end and errors count as input.
  // Otherwise, with `heed_hang_up`, each wait ends once the peer has hung up. timeout_ms < 0 waits
  // for ever.
  Wait wait(Wanted wanted, int timeout_ms, bool heed_hang_up = false);

  // Ends the current wait, or else the next one. Any thread.
  void wake();

  // Whether the replies go to a unix socket.
  bool is_local() const { return is_local_; }

  // For waiting elsewhere, together with others: input arrives at one of these descriptors, and
  // each `wake` makes the other readable. Until `close`.
  bool can_be_polled() const { return is_socket_ && wake_fd_ != -1; }
  int input_fd() const { return in_fd_; }
  int wake_fd() const { return wake_fd_; }

  // Whether a receive that got less than its capacity has left no byte behind (except, rarely,
  // after passed descriptors and urgent data). The stream's end may still follow.
  bool receives_all_there_is() const { return is_socket_ && !secure_; }

  // How many of the sent bytes a peer on this machine has not read; 0 for other peers. Any thread.
  size_t unread_bytes() const;

  // Sends what it can of the buffers at once. `may_block`: waits up to a second until it can send
  // something. `more`: the next send follows at once. Returns the number of bytes, -EAGAIN if there
  // was no room, or another negative errno. One thread at a time; concurrent with receive.
  ssize_t send(const iovec *buffers, size_t count, bool may_block, bool more = false);

  // Sends memory without a copy (see PagePipe), and waits like a send that may block. If that is
  // not possible, it works like send.
  ssize_t send_pages(const uint8_t *data, size_t length_bytes);
  // Only if can_move_pages.
  ssize_t send_pages(PagePipe &pages);
  // See SecureStream.
  bool has_answers() const { return secure_ && secure_->has_answers(); }
  ssize_t send_answers(bool may_block) { return secure_->send_answers(*this, may_block); }

  // For the sending thread: waits until there is room, or until a send would show what is wrong.
  void wait_for_room(int timeout_ms) const;
  // Whether a send that is not large could go out without waiting.
  bool has_room() const;
  bool can_move_pages() const { return is_socket_ && !secure_; }
  // Whether references to this many bytes can be sent without waiting. Any thread, but only the
  // sending thread knows that the answer stays true.
  bool has_room_for_references(size_t length_bytes) const;

  // Makes present and future receives, waits and sends fail soon. Any thread.
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
  const bool is_local_;       // a unix socket
  const size_t buffer_bytes_; // of a unix socket, for what is sent: TCP's grows
  const std::unique_ptr<SecureStream> secure_;
  std::atomic<bool> aborted_{false}; // pairs with nothing: the descriptors notify threads that wait
  // Other threads must not touch a descriptor whose number has been reused.
  mutable base::Mutex<base::LockRank::transport_end> closing_;
};

// Whether fd is a socket (as opposed to a pipe, a terminal or a file).
bool is_socket(int fd);

// Sets or clears O_NONBLOCK. False, with errno set, on failure.
bool set_nonblocking(int fd, bool nonblocking);

} // namespace asyncnbd::transport
