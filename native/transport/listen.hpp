// Listening sockets of each kind, and accepting from them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace asyncnbd::transport {

struct Listeners {
  std::vector<int> fds;   // non-blocking, close-on-exec; owned by the caller
  int port = 0;           // the TCP port that was bound, of interest if 0 was asked for
  std::string error;      // why fds is empty
  bool took_over = false; // it replaced a unix socket that nobody served any more
};

// `kind` names a kind of listener; listen.cpp describes the `words` for each. A unix socket that
// refuses connections is taken over; it is an error if the path is served, or is no socket.
Listeners listen_on(std::string_view kind, const std::vector<std::string> &words);

// Accepts one client. Returns its descriptor, -EAGAIN if none waits, or another negative errno.
// Nagle's algorithm is off, keepalive is on, and a unix socket's buffer is large.
int accept_client(int listening_fd);

} // namespace asyncnbd::transport
