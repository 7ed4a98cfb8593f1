// Moves pages by reference instead of copying their bytes: memory, or what the page cache has of a
// file, to a socket; and what has arrived at a socket to a file, with the kernel's one copy.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sys/types.h>
#include <vector>

#include "base/mutex.hpp"

namespace asyncnbd::transport {

// What several sends have sent, the last of which may have failed: as one would say it.
inline ssize_t sent_in_all(ssize_t sent_before, ssize_t last) {
  return last >= 0 ? sent_before + last : sent_before > 0 ? sent_before : last;
}

class PagePipes;
class SigpipeGuard;

// Pages on their way. What is written to the memory or the file before the peer has received them
// is received, perhaps in part. One thread at a time.
class PagePipe {
public:
  // Gives it back to its PagePipes.
  struct Returner {
    void operator()(PagePipe *pipe) const;
  };
  using Owner = std::unique_ptr<PagePipe, Returner>;

  enum class For { sending, receiving };

  ~PagePipe();
  PagePipe(const PagePipe &) = delete;
  PagePipe &operator=(const PagePipe &) = delete;

  // Puts in as much of the memory as there is room for. Returns the number of bytes or a negative
  // errno.
  ssize_t put_memory(const uint8_t *data, size_t length_bytes);

  // Puts in a part of a file, all of it, reading from the disk what the page cache does not have;
  // takes further pipes for what it has no room for. Returns 0 or an error, with which the pipe is
  // of no use any more: -ENOBUFS if there are not enough pipes, -ENODATA if the file ends before.
  int put_file(int fd, uint64_t offset, size_t length_bytes);

  // Takes up to so many of the bytes that have arrived at a socket. Returns their number, -EAGAIN
  // if none have arrived, or -ENOBUFS if this is no way for them: it has no room, a sandbox forbids
  // it, or it is for a receive to say what has become of the stream.
  ssize_t put_arrived(int socket, size_t capacity_bytes);

  size_t arrived_bytes() const { return length_bytes_; }

  // Writes what has arrived to a part of a file. Returns the number of bytes, all of them or those
  // before an error.
  size_t write_file(int fd, uint64_t offset);

  // Waits until the socket has taken all of it or failed. `more`: the next send follows at once.
  // Returns the number of bytes or a negative errno.
  ssize_t send(int socket, bool more);

  // Takes out what is in it, by a copy. Returns the number of bytes, all of them or those before
  // what cannot be read, or cannot be copied there, which are still in it.
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
  size_t pages_ = 0;        // that it has room for
  size_t length_bytes_ = 0; // of what is in it
  Owner next_;              // has what comes after that
};

// The pipes of a process: few enough to leave descriptors for clients, and kept for the next who
// needs one. Outlives them. Any thread.
class PagePipes {
public:
  PagePipes() = default;
  ~PagePipes() { close_kept(); }
  PagePipes(const PagePipes &) = delete;
  PagePipes &operator=(const PagePipes &) = delete;

  // An empty one; nullptr if there are many already, or the system has none left. Clients that do
  // not send what they have begun get at most half of them.
  PagePipe::Owner take(PagePipe::For purpose);
  // Closes those that are kept.
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
  size_t receiving_ = 0; // of them
};

} // namespace asyncnbd::transport
