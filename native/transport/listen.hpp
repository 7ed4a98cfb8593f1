// Listening sockets: TCP on one or both families, unix, and accepting from them.
#pragma once

#include <string>
#include <vector>

namespace asyncnbd::transport {

enum class Family { any, ipv4, ipv6 };

struct Listeners {
  std::vector<int> fds;   // non-blocking, close-on-exec; owned by the caller
  int port = 0;           // the TCP port that was bound, of interest if 0 was asked for
  std::string error;      // why fds is empty
  bool took_over = false; // it replaced a unix socket that nobody served any more
};

// `host` empty: all interfaces. `port`: a number or a service name; "0" lets the kernel choose,
// the same port for every address.
Listeners listen_tcp(const std::string &host, const std::string &port, Family family);
// Takes over a socket that refuses connections. It is an error if the path is served, or is no
// socket.
Listeners listen_unix(const std::string &path);
// For the host and other virtual machines, on any of this machine's context ids.
Listeners listen_vsock(uint32_t port);

// Listening sockets that this process was started with: `count` descriptors from 3 on.
Listeners adopt_listeners(int count);

// Accepts one client. Returns its descriptor, -EAGAIN if none waits, or another negative errno.
// Nagle's algorithm is off, keepalive is on, and a unix socket's buffer is large.
int accept_client(int listening_fd);

} // namespace asyncnbd::transport
