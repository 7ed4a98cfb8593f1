// What the native unit tests share: a pair of connected sockets and bytes of requests.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <endian.h>
#include <functional>
#include <mutex>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "wire/wire.hpp"

enum class Over { unix_socket, tcp };

// The server's end goes to the object under test; the client's end is ours.
struct SocketPair {
  int server = -1;
  int client = -1;
  explicit SocketPair(Over over = Over::unix_socket) {
    if (over == Over::tcp) {
      connect_tcp();
      return;
    }
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0) {
      server = fds[0];
      client = fds[1];
    }
  }
  ~SocketPair() { close_client(); }
  void connect_tcp() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto *any = reinterpret_cast<sockaddr *>(&address);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, any, length) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, any, &length) == 0 && connect(client, any, length) == 0)
      server = accept(listener, nullptr, nullptr);
    close(listener);
  }
  void close_client() {
    if (client != -1)
      close(client);
    client = -1;
  }
};

// Not inlined: GCC 12 warns of overflows that are none when it sees the size.
__attribute__((noinline)) inline std::vector<uint8_t> encode_request(uint16_t type, uint64_t cookie,
                                                                     uint64_t offset,
                                                                     uint32_t length,
                                                                     uint16_t flags = 0) {
  std::vector<uint8_t> bytes(asyncnbd::wire::REQUEST_HEADER_BYTES);
  auto put = [&bytes](size_t at, auto value) { memcpy(bytes.data() + at, &value, sizeof value); };
  put(0, htobe32(asyncnbd::wire::NBD_REQUEST_MAGIC));
  put(4, htobe16(flags));
  put(6, htobe16(type));
  put(8, htobe64(cookie));
  put(16, htobe64(offset));
  put(24, htobe32(length));
  return bytes;
}

inline bool send_all(int fd, const void *data, size_t bytes) {
  const auto *from = static_cast<const uint8_t *>(data);
  while (bytes > 0) {
    ssize_t sent = send(fd, from, bytes, MSG_NOSIGNAL);
    if (sent <= 0)
      return false;
    from += sent;
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

inline bool send_all(int fd, const std::vector<uint8_t> &data) {
  return send_all(fd, data.data(), data.size());
}

inline bool read_all(int fd, void *data, size_t bytes) {
  return recv(fd, data, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
}

struct Reply {
  uint32_t error = 0;
  uint64_t cookie = 0;
};

inline bool read_reply(int fd, Reply *reply) {
  uint8_t bytes[asyncnbd::wire::SIMPLE_REPLY_BYTES];
  if (!read_all(fd, bytes, sizeof bytes))
    return false;
  memcpy(&reply->error, bytes + 4, 4);
  memcpy(&reply->cookie, bytes + 8, 8);
  reply->error = be32toh(reply->error);
  reply->cookie = be64toh(reply->cookie);
  return true;
}

// Lets threads wait for a condition, with a deadline that only a failing test meets.
class Gate {
public:
  template <typename Change> void change(Change change) {
    std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  bool wait(const std::function<bool()> &condition,
            std::chrono::milliseconds deadline = std::chrono::seconds(20)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, deadline, condition);
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
};
