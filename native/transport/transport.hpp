// A connected stream as the transmission loop uses it: receive what is there, wait for more,
// send a list of buffers whole. Plain sockets and pipes today; TLS belongs behind this face.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <sys/types.h>
#include <sys/uio.h>

namespace asyncnbd::transport {

enum class Wait { readable, stopping, timed_out };

class Transport {
public:
  // Takes ownership of both descriptors, which may be the same socket. `stop_fd` (not owned, may
  // be -1) becomes readable when the server stops.
  Transport(int in_fd, int out_fd, int stop_fd);
  ~Transport();
  Transport(const Transport &) = delete;
  Transport &operator=(const Transport &) = delete;

  // Receives up to `capacity_bytes` of what has arrived. Returns the number of bytes, 0 at the
  // end of the stream, -EAGAIN if nothing has arrived, another negative errno on failure. One
  // thread at a time.
  ssize_t receive(void *data, size_t capacity_bytes);

  // Waits until receive has something to say (the end and errors too). `heed_stop`: also until
  // the server stops. timeout_ms < 0 waits for ever.
  Wait wait(bool heed_stop, int timeout_ms);

  // Sends all buffers, blocking while the peer does not read; changes the entries. Returns 0 or
  // a negative errno. One thread at a time; concurrent with receive.
  int send(iovec *buffers, size_t count);

  // Makes every receive, wait and send fail soon, now and later. Any thread.
  void abort();

  // Closes the descriptors. With `linger`, first lets the peer read what was sent: closing a
  // socket that holds unread input would make the kernel drop our last replies. Bounded in time.
  void close(bool linger);

  int peer_fd() const { return out_fd_; }

private:
  bool wait_writable();
  void drain();

  int in_fd_;
  int out_fd_;
  const int stop_fd_;
  int abort_fd_ = -1; // an eventfd, for pipes: they have no shutdown(2)
  const bool is_socket_;
  std::atomic<bool> aborted_{false};
  std::mutex closing_; // abort must not touch a descriptor whose number someone else has now
};

// Whether fd is a socket (as opposed to a pipe, a terminal or a file).
bool is_socket(int fd);

// Sets or clears O_NONBLOCK. False, with errno set, on failure.
bool set_nonblocking(int fd, bool nonblocking);

} // namespace asyncnbd::transport
