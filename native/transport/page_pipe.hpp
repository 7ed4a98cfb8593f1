// Moves pages by reference instead of copying their bytes: memory, or what the page cache has of a
// file, to a socket; and what has arrived at a socket to a file, which the kernel copies once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sys/types.h>
#include <vector>

#include "base/mutex.hpp"

namespace asyncnbd::transport {

// The result of several sends, as if they were one; the last may have failed.
inline ssize_t sent_in_all(ssize_t sent_before, ssize_t last) {
  return last >= 0 ? sent_before + last : sent_before > 0 ? sent_before : last;
}

class PagePipes;
class SigpipeGuard;

// Pages on their way. If the memory or the file is written before the peer has received them, the
// peer may receive the new bytes, or some of them. One thread at a time.
class PagePipe {
public:
  // Gives the pipe back to its PagePipes.
  struct Returner {
    void operator()(PagePipe *pipe) const;
  };
  using Owner = std::unique_ptr<PagePipe, Returner>;

  enum class For { sending, receiving };

  ~PagePipe();
  PagePipe(const PagePipe &) = delete;
  PagePipe &operator=(const PagePipe &) = delete;

  // Puts in as much of the memory as fits. Returns the number of bytes or a negative errno.
  ssize_t put_memory(const uint8_t *data, size_t length_bytes);

  // Puts in a part of a file, all of it, reading from the disk what the page cache does not have;
  // takes further pipes for what does not fit. Returns 0, or an error, after which the pipe is
  // unusable: -ENOBUFS if there are not enough pipes, -ENODATA if the file ends too early.
  int put_file(int fd, uint64_t offset, size_t length_bytes);

  // Takes up to `capacity_bytes` that have arrived at a socket. Returns their number, -EAGAIN if
  // none have arrived, or -ENOBUFS if the caller must receive instead: the pipe is full, a sandbox
  // forbids this, or only a receive can tell the state of the stream.
  ssize_t put_arrived(int socket, size_t capacity_bytes);

  size_t arrived_bytes() const { return length_bytes_; }

  // Writes what has arrived to a part of a file. Returns the number of bytes: all, or those before
  // an error.
  size_t write_file(int fd, uint64_t offset);

  // Waits until the socket has taken all of it or failed. `more`: the next send follows at once.
  // Returns the number of bytes or a negative errno.
  ssize_t send(int socket, bool more);

  // Copies the contents out. Returns the number of bytes: all, or those before the first that
  // cannot be read or copied, which stay in the pipe.
  size_t take_out(uint8_t *data);

  bool is_empty() const { return length_bytes_ == 0 && !next_; }

private:
  friend class PagePipes;

  PagePipe(PagePipes &pipes, int read_end, int write_end)
      : pipes_(pipes), read_end_(read_end), write_end_(write_end) {}
  static PagePipe *open(PagePipes &pipes);
  size_t room_bytes() const;
  bool has_room() const;
  bool chain(size_t length_bytes);
  ssize_t send_guarded(SigpipeGuard &guard, int socket, bool more);
  int splice_in(int fd, uint64_t offset, size_t length_bytes);

  PagePipes &pipes_;
  const int read_end_;
  const int write_end_;
  For purpose_ = For::sending;
  size_t pages_ = 0;        // its capacity
  size_t length_bytes_ = 0; // of its contents
  Owner next_;              // holds what follows
};

// The pipes of a process: few enough to leave descriptors for clients, and kept for reuse. Outlives
// them. Any thread.
class PagePipes {
public:
  PagePipes() = default;
  ~PagePipes() { close_kept(); }
  PagePipes(const PagePipes &) = delete;
  PagePipes &operator=(const PagePipes &) = delete;

  // An empty pipe; nullptr if too many exist, or the system has none left. Payloads that are being
  // received get at most half of them, because clients may not send the rest.
  PagePipe::Owner take(PagePipe::For purpose);
  // Closes the pipes that are kept.
  void close_kept();

  // False once memory could not be put in, as in a sandbox.
  bool can_take_memory() const { return can_take_memory_.load(std::memory_order_relaxed); }

private:
  friend class PagePipe;
  void put(PagePipe *pipe);

  std::atomic<bool> can_take_memory_{true};       // a hint, pairs with nothing
  base::Mutex<base::LockRank::page_pipes> mutex_; // guards the rest
  std::vector<PagePipe *> kept_;
  size_t count_ = 0;
  size_t receiving_ = 0; // how many of them are receiving
};

} // namespace asyncnbd::transport
