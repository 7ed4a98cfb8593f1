// Rules about where clients come from.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace asyncnbd::filters {

// A client: its address, and over a unix socket its process; numbers are -1 where nobody knows.
struct Peer {
  sockaddr_storage address{};
  int64_t process = -1;
  int64_t user = -1;
  int64_t group = -1;
};

struct IpRule {
  enum class Kind : uint8_t { any, family, address, process, user, group, vsock_cid, vsock_port };
  Kind kind = Kind::any;
  int family = AF_UNSPEC;            // of a family or an address
  std::array<uint8_t, 16> address{}; // of which the first bytes are used
  unsigned prefix_bits = 0;          // that have to be the same
  int64_t number = 0;                // of the others
  std::string word;                  // that is the rule

  bool fits(const Peer &peer) const;
};

// Of values of the parameter `name`, each with commas between its rules. What is wrong with one of
// them is in `*error`.
std::vector<IpRule> ip_rules(const char *name, const std::vector<std::string> &values,
                             std::string *error);

} // namespace asyncnbd::filters
