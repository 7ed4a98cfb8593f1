// See listen.hpp.
#include "transport/listen.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h> // needs what sys/socket.h has

#include "base/error_numbers.hpp"
#include "base/invariant.hpp"

namespace asyncnbd::transport {

namespace {

constexpr int UNIX_BUFFER_BYTES = 4 << 20;
constexpr int PORT_ATTEMPTS = 16;
constexpr long STALE_LOOK_AGAIN_MS = 20;

std::string errno_text() {
  return base::error_text(errno);
}

void close_all(std::vector<int> *fds) {
  for (int fd : *fds)
    ::close(fd);
  fds->clear();
}

int port_of(int fd) {
  sockaddr_storage address;
  socklen_t length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) == -1)
    return 0;
  if (address.ss_family == AF_INET6)
    return ntohs(reinterpret_cast<sockaddr_in6 *>(&address)->sin6_port);
  return ntohs(reinterpret_cast<sockaddr_in *>(&address)->sin_port);
}

void set_port(sockaddr *address, int port) {
  uint16_t network = htons(static_cast<uint16_t>(port));
  if (address->sa_family == AF_INET6)
    reinterpret_cast<sockaddr_in6 *>(address)->sin6_port = network;
  else
    reinterpret_cast<sockaddr_in *>(address)->sin_port = network;
}

// -1 with errno set on failure.
int bind_and_listen(const addrinfo *address) {
  int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                  address->ai_protocol);
  if (fd == -1)
    return -1;
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address->ai_family == AF_INET6) // IPv4 has a socket of its own
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
    return fd;
  int saved = errno;
  ::close(fd);
  errno = saved;
  return -1;
}

// Binds every address. If *port is 0, the others use the first one's port; *port_taken tells that
// this failed, and that another port may work.
bool bind_all(const addrinfo *addresses, int *port, Listeners *listeners, bool *port_taken) {
  *port_taken = false;
  int bind_errno = 0;
  for (const addrinfo *address = addresses; address != nullptr; address = address->ai_next) {
    if (*port != 0)
      set_port(address->ai_addr, *port);
    int fd = bind_and_listen(address);
    if (fd == -1 && errno == EADDRINUSE) {
      *port_taken = true;
      listeners->error = errno_text();
      close_all(&listeners->fds);
      return false;
    }
    if (fd == -1) {
      bind_errno = errno; // a family that this machine lacks: the others may work
      continue;
    }
    listeners->fds.push_back(fd);
    *port = port_of(fd);
  }
  if (listeners->fds.empty())
    listeners->error = base::error_text(bind_errno);
  return !listeners->fds.empty();
}

// -1 with errno set on failure.
int bind_unix(const sockaddr_un &address) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd == -1)
    return -1;
  if (bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0) {
    if (listen(fd, SOMAXCONN) == 0)
      return fd;
    unlink(address.sun_path);
  }
  int saved = errno;
  ::close(fd);
  errno = saved;
  return -1;
}

// True: nobody listens there. Other failures to connect prove nothing.
bool refuses_connections(const sockaddr_un &address) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd == -1)
    return false;
  bool refused = connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) == -1 &&
                 errno == ECONNREFUSED;
  ::close(fd);
  return refused;
}

// True if there was a socket without a server.
bool remove_stale_socket(const sockaddr_un &address) {
  struct stat before, after;
  if (lstat(address.sun_path, &before) == -1 || !S_ISSOCK(before.st_mode) ||
      !refuses_connections(address))
    return false;
  // A server that has bound its socket may be about to listen: give it time for that.
  const timespec pause{0, STALE_LOOK_AGAIN_MS * 1'000'000};
  nanosleep(&pause, nullptr);
  return refuses_connections(address) && lstat(address.sun_path, &after) == 0 &&
         after.st_dev == before.st_dev && after.st_ino == before.st_ino &&
         unlink(address.sun_path) == 0;
}

bool is_no_socket(const sockaddr_un &address) {
  struct stat status;
  return lstat(address.sun_path, &status) == 0 && !S_ISSOCK(status.st_mode);
}

using Words = std::vector<std::string>;

// A number from JavaScript, which has checked it.
unsigned long number_of(const std::string &word) {
  return strtoul(word.c_str(), nullptr, 10);
}

int address_family(const std::string &word) {
  return word == "4" ? AF_INET : word == "6" ? AF_INET6 : AF_UNSPEC;
}

// A host, "" for all interfaces; a number or a service's name, where "0" lets the system choose the
// same port for every address; "4" or "6" for one family only.
Listeners listen_tcp(const Words &words) {
  const std::string &host = words[0], &port = words[1];
  Listeners listeners;
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_family = address_family(words[2]);
  hints.ai_socktype = SOCK_STREAM;
  addrinfo *addresses = nullptr;
  int failure =
      getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &addresses);
  if (failure != 0) {
    listeners.error = failure == EAI_SYSTEM    ? errno_text()
                      : failure == EAI_SERVICE ? "there is no such service"
                                               : gai_strerror(failure);
    return listeners;
  }

  const bool any_port = port == "0";
  for (int attempt = 0; attempt < PORT_ATTEMPTS; attempt++) {
    bool port_taken;
    listeners.port = 0;
    if (any_port)
      for (const addrinfo *address = addresses; address != nullptr; address = address->ai_next)
        set_port(address->ai_addr, 0);
    if (bind_all(addresses, &listeners.port, &listeners, &port_taken) || !port_taken || !any_port)
      break;
  }
  freeaddrinfo(addresses);
  return listeners;
}

// A path.
Listeners listen_unix(const Words &words) {
  const std::string &path = words[0];
  Listeners listeners;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    listeners.error = "the path is " + std::to_string(path.size()) +
                      " bytes long, a unix socket's can be " +
                      std::to_string(sizeof address.sun_path - 1);
    return listeners;
  }
  memcpy(address.sun_path, path.c_str(), path.size() + 1);

  int fd = bind_unix(address);
  if (fd == -1 && errno == EADDRINUSE) {
    listeners.took_over = remove_stale_socket(address);
    if (listeners.took_over)
      fd = bind_unix(address);
    else if (is_no_socket(address)) {
      listeners.error = "a file or directory of this name exists already";
      return listeners;
    } else
      errno = EADDRINUSE;
  }
  if (fd == -1)
    listeners.error = errno_text();
  else
    listeners.fds.push_back(fd);
  return listeners;
}

// A port. For the host and other virtual machines, on any of this machine's context ids.
Listeners listen_vsock(const Words &words) {
  Listeners listeners;
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_ANY;
  address.svm_port = static_cast<unsigned>(number_of(words[0]));
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd == -1 || bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) == -1 ||
      listen(fd, SOMAXCONN) == -1) {
    listeners.error = errno_text();
    if (fd != -1)
      ::close(fd);
    return listeners;
  }
  listeners.fds.push_back(fd);
  return listeners;
}

// How many sockets this process was started with.
Listeners adopt_listeners(const Words &words) {
  constexpr int FIRST = STDERR_FILENO + 1; // SD_LISTEN_FDS_START
  const int count = static_cast<int>(number_of(words[0]));
  Listeners listeners;
  for (int fd = FIRST; fd < FIRST + count; fd++) {
    int listens = 0;
    socklen_t length = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == -1 || listens == 0) {
      listeners.error = "descriptor " + std::to_string(fd) + " is not a listening socket";
      listeners.fds.clear(); // they were not ours
      return listeners;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    listeners.fds.push_back(fd);
  }
  return listeners;
}

struct Kind {
  std::string_view name;
  size_t words;
  Listeners (*listen)(const Words &words);
};

constexpr auto KINDS = std::to_array<Kind>({
    {"tcp", 3, listen_tcp},
    {"unix", 1, listen_unix},
    {"vsock", 1, listen_vsock},
    {"activated", 1, adopt_listeners},
});

} // namespace

Listeners listen_on(std::string_view kind, const Words &words) {
  const auto *found = std::find_if(KINDS.begin(), KINDS.end(),
                                   [kind](const Kind &each) { return each.name == kind; });
  base::invariant(found != KINDS.end(), "JavaScript asks for a kind of listener that there is");
  base::invariant(found->words == words.size(), "a kind of listener gets its words");
  return found->listen(words);
}

int accept_client(int listening_fd) {
  int fd = accept4(listening_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd == -1)
    return -errno;
  // All of this is best effort. TCP sizes its own buffers, better than a fixed size would; a unix
  // socket has only this one, and the system limits it.
  int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == -1)
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &UNIX_BUFFER_BYTES, sizeof UNIX_BUFFER_BYTES);
  else // a client whose machine has vanished must not stay for ever
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  return fd;
}

} // namespace asyncnbd::transport
