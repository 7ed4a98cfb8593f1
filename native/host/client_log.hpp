// Log lines about clients: one for each client that is refused or whose connection fails, as long
// as they are few; and with --log-clients, for each that connects or disconnects.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "host/log_target.hpp"

namespace asyncnbd::host {

// "127.0.0.1:40000", "[::1]:40000", "pid 12 of user 0" at a unix socket, "vsock 3:4000".
std::string peer_of(int fd);

// The same in parts; parts that an address of its kind lacks are empty or 0.
struct PeerAddress {
  const char *kind = "unknown"; // "tcp", "unix", "vsock", "stdio"
  std::string address;
  uint32_t port = 0;
  uint32_t context_id = 0; // of vsock
  int64_t process_id = 0;
  int64_t user_id = 0;
};
PeerAddress peer_address(int fd);

// Limits lines: a number at once, and one more after each interval. One thread at a time.
class LineLimit {
public:
  using Clock = std::chrono::steady_clock;
  LineLimit(unsigned burst, Clock::duration interval) : burst_(burst), interval_(interval) {}

  struct Verdict {
    bool may_log = false;
    uint64_t left_out = 0; // since the last line
  };
  Verdict ask(Clock::time_point now);

private:
  const unsigned burst_;
  const Clock::duration interval_;
  unsigned used_ = 0;
  Clock::time_point since_{}; // when the first of those was used
  uint64_t left_out_ = 0;
};

// Whether connects and disconnects are logged at the default level; otherwise only with -v.
void set_log_clients(bool wanted);

// `name`: the plugin's, `number`: the connection's, `peer`: of peer_of. Any thread.
struct LoggedClient {
  std::string name;
  uint64_t number;
  std::string peer;
  std::shared_ptr<LogTarget> log{}; // the server's
};
// "refused: …", "connection failed: …"
void log_trouble(const LoggedClient &client, const std::string &what);
// "connected", "disconnected: …"
void log_event(const LoggedClient &client, const std::string &what);

} // namespace asyncnbd::host
