// See client_log.hpp.
#include "host/client_log.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <string_view>
#include <sys/socket.h>

#include "base/mutex.hpp"
#include "host/log.hpp"

namespace asyncnbd::host {

namespace {

constexpr unsigned BURST_LINES = 20;
constexpr std::chrono::seconds LINE_INTERVAL{3};

std::atomic<bool> logs_clients{false}; // a setting, pairs with nothing

void internet_address(int family, const void *address, uint16_t port, PeerAddress *peer) {
  char text[INET6_ADDRSTRLEN];
  if (inet_ntop(family, address, text, sizeof text) == nullptr)
    return;
  peer->kind = "tcp";
  peer->address = text;
  peer->port = ntohs(port);
}

void unix_address(int fd, PeerAddress *peer) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  peer->kind = "unix";
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == -1)
    return;
  peer->process_id = credentials.pid;
  peer->user_id = credentials.uid;
}

std::string whose(const LoggedClient &client) {
  return client.name + "[" + std::to_string(client.number) + "]: ";
}

std::string line(const LoggedClient &client, const std::string &what) {
  return "client " + client.peer + ": " + what;
}

} // namespace

PeerAddress peer_address(int fd) {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
    sockaddr_vm vm;
    sockaddr_storage room;
  } address{};
  socklen_t length = sizeof address;
  PeerAddress peer;
  if (getpeername(fd, &address.any, &length) == -1) {
    if (errno == ENOTSOCK)
      peer.kind = "stdio";
    return peer; // the client may have gone
  }
  switch (address.any.sa_family) {
  case AF_INET:
    internet_address(AF_INET, &address.v4.sin_addr, address.v4.sin_port, &peer);
    break;
  case AF_INET6:
    internet_address(AF_INET6, &address.v6.sin6_addr, address.v6.sin6_port, &peer);
    break;
  case AF_UNIX:
    unix_address(fd, &peer);
    break;
  case AF_VSOCK:
    peer.kind = "vsock";
    peer.context_id = address.vm.svm_cid;
    peer.port = address.vm.svm_port;
    break;
  default:
    break;
  }
  return peer;
}

std::string peer_of(int fd) {
  const PeerAddress peer = peer_address(fd);
  const std::string_view kind = peer.kind;
  const std::string port = std::to_string(peer.port);
  if (kind == "tcp")
    return (peer.address.find(':') == std::string::npos ? peer.address : "[" + peer.address + "]") +
           ":" + port;
  if (kind == "unix")
    return peer.process_id == 0 ? "in an unknown process"
                                : "pid " + std::to_string(peer.process_id) + " of user " +
                                      std::to_string(peer.user_id);
  if (kind == "vsock")
    return "vsock " + std::to_string(peer.context_id) + ":" + port;
  return kind == "stdio" ? "on standard input" : "at an unknown address";
}

LineLimit::Verdict LineLimit::ask(Clock::time_point now) {
  if (used_ > 0) {
    const auto passed = static_cast<uint64_t>((now - since_) / interval_);
    used_ -= static_cast<unsigned>(std::min<uint64_t>(used_, passed));
    since_ += passed * interval_;
  }
  if (used_ >= burst_) {
    left_out_++;
    return {};
  }
  if (used_++ == 0)
    since_ = now;
  const Verdict verdict{true, left_out_};
  left_out_ = 0;
  return verdict;
}

void set_log_clients(bool wanted) {
  logs_clients.store(wanted, std::memory_order_relaxed);
}

void log_trouble(const LoggedClient &client, const std::string &what) {
  static base::Mutex<base::LockRank::client_log> mutex;
  static LineLimit limit(BURST_LINES, LINE_INTERVAL);
  LineLimit::Verdict verdict;
  {
    std::lock_guard lock(mutex);
    verdict = limit.ask(LineLimit::Clock::now());
  }
  if (!verdict.may_log) {
    log_debug_of(whose(client), line(client, what), client.log.get());
    return;
  }
  std::string text = line(client, what);
  if (verdict.left_out > 0)
    text += " (and " + std::to_string(verdict.left_out) + " more messages suppressed)";
  log_warning_of(whose(client), text, client.log.get());
}

void log_event(const LoggedClient &client, const std::string &what) {
  if (logs_clients.load(std::memory_order_relaxed))
    log_info_of(whose(client), line(client, what), client.log.get());
  else
    log_debug_of(whose(client), line(client, what), client.log.get());
}

} // namespace asyncnbd::host
