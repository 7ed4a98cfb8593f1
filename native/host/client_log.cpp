// See client_log.hpp.
#include "host/client_log.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/mutex.hpp"
#include "host/log.hpp"

namespace asyncnbd::host {

namespace {

constexpr unsigned BURST_LINES = 20;
constexpr std::chrono::seconds LINE_INTERVAL{3};

std::atomic<bool> logs_clients{false}; // a setting, pairs with nothing

std::string socket_name(int family, const void *address, uint16_t port) {
  char text[INET6_ADDRSTRLEN];
  if (inet_ntop(family, address, text, sizeof text) == nullptr)
    return "at an unknown address";
  char name[sizeof text + sizeof "[]:65535"];
  snprintf(name, sizeof name, family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, ntohs(port));
  return name;
}

std::string unix_name(int fd) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == -1)
    return "in an unknown process";
  return "pid " + std::to_string(peer.pid) + " of user " + std::to_string(peer.uid);
}

std::string whose(const LoggedClient &client) {
  return client.name + "[" + std::to_string(client.number) + "]: ";
}

std::string line(const LoggedClient &client, const std::string &what) {
  return "client " + client.peer + ": " + what;
}

} // namespace

std::string peer_of(int fd) {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
    sockaddr_vm vm;
    sockaddr_storage room;
  } address{};
  socklen_t length = sizeof address;
  if (getpeername(fd, &address.any, &length) == -1)
    return errno == ENOTSOCK ? "on standard input" : "at an unknown address"; // which may have gone
  switch (address.any.sa_family) {
  case AF_INET:
    return socket_name(AF_INET, &address.v4.sin_addr, address.v4.sin_port);
  case AF_INET6:
    return socket_name(AF_INET6, &address.v6.sin6_addr, address.v6.sin6_port);
  case AF_UNIX:
    return unix_name(fd);
  case AF_VSOCK:
    return "vsock " + std::to_string(address.vm.svm_cid) + ":" +
           std::to_string(address.vm.svm_port);
  default:
    return "at an unknown address";
  }
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
    log_debug_of(whose(client), line(client, what));
    return;
  }
  std::string text = line(client, what);
  if (verdict.left_out > 0)
    text += " (and " + std::to_string(verdict.left_out) + " more messages suppressed)";
  log_warning_of(whose(client), text);
}

void log_event(const LoggedClient &client, const std::string &what) {
  if (logs_clients.load(std::memory_order_relaxed))
    log_info_of(whose(client), line(client, what));
  else
    log_debug_of(whose(client), line(client, what));
}

} // namespace asyncnbd::host
