// Rules about clients' addresses and processes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace asyncnbd::filters {

// A client: its address, and on a unix socket its process; unknown numbers are -1.
struct Peer {
  sockaddr_storage address{};
  int64_t process = -1;
  int64_t user = -1;
  int64_t group = -1;
};

struct IpRule {
  enum class Kind : uint8_t { any, family, address, process, user, group, vsock_cid, vsock_port };
  Kind kind = Kind::any;
  int family = AF_UNSPEC;            // for a family or an address
  std::array<uint8_t, 16> address{}; // only the first bytes are used
  unsigned prefix_bits = 0;          // how many must match
  int64_t number = 0;                // for the other kinds
  std::string word;                  // the text of the rule

  bool fits(const Peer &peer) const;
};

// Parses values of the parameter `name`, each with commas between its rules. An error message is in
// `*error`.
std::vector<IpRule> ip_rules(const char *name, const std::vector<std::string> &values,
                             std::string *error);

} // namespace asyncnbd::filters
