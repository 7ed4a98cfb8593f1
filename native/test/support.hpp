// What the native tests share: sockets that give up after a deadline, events to wait for, and the
// client's side of the protocol.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <endian.h>
#include <fcntl.h>
#include <mutex>
#include <poll.h>
#include <stdexcept>
#include <string>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "host/log.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::test {

using Bytes = std::vector<uint8_t>;

// Every wait ends here at the latest; only a failing test comes near it.
constexpr std::chrono::seconds DEADLINE{60};
constexpr int DEADLINE_MS = 60000;

// Log lines of refusals that tests provoke would hide those of a failure; and a write to a closed
// pipe must be an error, as it is in Node.
inline const bool is_set_up = [] {
  host::log_configure("test", false, host::LogSink::none);
  return signal(SIGPIPE, SIG_IGN) != SIG_ERR;
}();

// Looks until `condition` holds. False after the deadline.
template <typename Condition> bool eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + DEADLINE;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline)
      return false;
    std::this_thread::yield();
  }
  return true;
}

// Set once, for all who wait.
class Event {
public:
  void set() {
    std::lock_guard lock(mutex_);
    happened_ = true;
    changed_.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, DEADLINE, [this] { return happened_; });
  }
  bool has_happened() {
    std::lock_guard lock(mutex_);
    return happened_;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool happened_ = false;
};

class Fd {
public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd &&other) noexcept : fd_(other.release()) {}
  Fd &operator=(Fd &&other) noexcept {
    close();
    fd_ = other.release();
    return *this;
  }
  ~Fd() { close(); }

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void close() {
    if (fd_ != -1)
      ::close(fd_);
    fd_ = -1;
  }

private:
  int fd_ = -1;
};

struct FdPair {
  Fd server;
  Fd client;
};

inline FdPair make_socketpair(int type = SOCK_STREAM) {
  int fds[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) == -1)
    throw std::runtime_error("socketpair failed");
  return {Fd(fds[0]), Fd(fds[1])};
}

inline bool wait_for(int fd, short events) {
  pollfd end{fd, events, 0};
  return poll(&end, 1, DEADLINE_MS) > 0;
}

// False if the peer has gone or does not read. Sockets only.
inline bool write_all(int fd, const uint8_t *data, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == -1 && errno == EAGAIN && wait_for(fd, POLLOUT))
      continue;
    if (sent <= 0)
      return false;
    data += sent;
    length -= static_cast<size_t>(sent);
  }
  return true;
}

inline bool write_all(int fd, const Bytes &bytes) {
  return write_all(fd, bytes.data(), bytes.size());
}

// As many bytes as were asked for, fewer if the stream ends, breaks or falls silent.
inline Bytes read_exactly(int fd, size_t length) {
  Bytes bytes(length);
  size_t position = 0;
  while (position < length && wait_for(fd, POLLIN)) {
    ssize_t received = read(fd, bytes.data() + position, length - position);
    if (received <= 0)
      break;
    position += static_cast<size_t>(received);
  }
  bytes.resize(position);
  return bytes;
}

inline bool has_ended(int fd) {
  uint8_t byte;
  return wait_for(fd, POLLIN) && read(fd, &byte, 1) <= 0;
}

inline int readable_bytes(int fd) {
  int bytes = 0;
  return ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : -1;
}

template <typename T> void append(Bytes *bytes, T value) {
  uint8_t raw[sizeof value];
  memcpy(raw, &value, sizeof value);
  bytes->insert(bytes->end(), raw, raw + sizeof value);
}

inline void append(Bytes *bytes, const Bytes &more) {
  bytes->insert(bytes->end(), more.begin(), more.end());
}

// A request as a client sends it. The cookie is opaque to the server: here as it lies in memory.
inline Bytes request_bytes(uint16_t type, uint64_t cookie, uint64_t offset, uint32_t length,
                           const Bytes &payload = {}, uint16_t flags = 0) {
  Bytes bytes;
  append(&bytes, htobe32(wire::NBD_REQUEST_MAGIC));
  append(&bytes, htobe16(flags));
  append(&bytes, htobe16(type));
  append(&bytes, cookie);
  append(&bytes, htobe64(offset));
  append(&bytes, htobe32(length));
  append(&bytes, payload);
  return bytes;
}

inline Bytes disconnect_bytes() {
  return request_bytes(wire::NBD_CMD_DISC, 0, 0, 0);
}

// Bytes that tell where in the export they lie, so that a mix-up shows.
inline uint8_t pattern_at(uint64_t offset) {
  return static_cast<uint8_t>(offset ^ (offset >> 8) ^ (offset >> 16));
}

inline Bytes pattern(uint64_t offset, size_t length) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; i++)
    bytes[i] = pattern_at(offset + i);
  return bytes;
}

struct Reply {
  bool is_valid = false; // false: the stream ended or had something else
  uint32_t error = 0;
  uint64_t cookie = 0;
};

inline Reply decode_reply(const Bytes &bytes) {
  Reply reply;
  uint32_t magic = 0;
  if (bytes.size() < wire::SIMPLE_REPLY_BYTES)
    return reply;
  memcpy(&magic, bytes.data(), sizeof magic);
  memcpy(&reply.error, bytes.data() + 4, sizeof reply.error);
  memcpy(&reply.cookie, bytes.data() + 8, sizeof reply.cookie);
  reply.error = be32toh(reply.error);
  reply.is_valid = be32toh(magic) == wire::NBD_SIMPLE_REPLY_MAGIC;
  return reply;
}

inline Reply read_reply(int fd) {
  return decode_reply(read_exactly(fd, wire::SIMPLE_REPLY_BYTES));
}

} // namespace asyncnbd::test
