// See ip_rules.hpp.
#include "filters/ip_rules.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

namespace asyncnbd::filters {

namespace {

using RuleKind = IpRule::Kind;

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

std::optional<int64_t> number_of(const std::string &text, int64_t least, int64_t most) {
  char *end = nullptr;
  errno = 0;
  const int64_t number = std::strtoll(text.c_str(), &end, 0);
  const bool is_number = errno == 0 && !text.empty() && *end == '\0';
  if (!is_number || number < least || number > most)
    return std::nullopt;
  return number;
}

struct Numbered {
  std::string_view prefix;
  RuleKind kind;
  int64_t least;
  int64_t most;
};

constexpr std::array<Numbered, 5> NUMBERED = {{
    {"pid:", RuleKind::process, 1, INT64_MAX},
    {"uid:", RuleKind::user, 0, INT64_MAX},
    {"gid:", RuleKind::group, 0, INT64_MAX},
    {"vsock-cid:", RuleKind::vsock_cid, 0, UINT32_MAX},
    {"vsock-port:", RuleKind::vsock_port, 0, UINT32_MAX},
}};

// "any" or "all", alone or followed by a family.
bool parse_any(const std::string &word, IpRule *rule) {
  if (word.rfind("any", 0) != 0 && word.rfind("all", 0) != 0)
    return false;
  const std::string family = word.substr(3);
  if (family.empty())
    return true;
  rule->kind = RuleKind::family;
  if (family == "ipv4")
    rule->family = AF_INET;
  else if (family == "ipv6")
    rule->family = AF_INET6;
  else if (family == "unix")
    rule->family = AF_UNIX;
  else if (family == "vsock")
    rule->family = AF_VSOCK;
  return rule->family != AF_UNSPEC;
}

// A rule for IPv6 addresses that stand for IPv4 ones becomes a rule for IPv4, because such clients
// count as IPv4. False: it also covers other addresses.
bool unmap_rule(IpRule *rule) {
  constexpr std::array<uint8_t, 12> MAPPED = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (rule->family != AF_INET6 ||
      std::memcmp(rule->address.data(), MAPPED.data(), MAPPED.size()) != 0)
    return true;
  constexpr unsigned MAPPED_BITS = 8 * MAPPED.size();
  if (rule->prefix_bits < MAPPED_BITS)
    return false;
  rule->family = AF_INET;
  rule->prefix_bits -= MAPPED_BITS;
  std::memmove(rule->address.data(), rule->address.data() + MAPPED.size(), 4);
  return true;
}

bool parse_address(const std::string &word, IpRule *rule) {
  const size_t slash = word.find('/');
  const std::string address = word.substr(0, slash);
  rule->kind = RuleKind::address;
  if (inet_pton(AF_INET, address.c_str(), rule->address.data()) == 1)
    rule->family = AF_INET;
  else if (inet_pton(AF_INET6, address.c_str(), rule->address.data()) == 1)
    rule->family = AF_INET6;
  else
    return false;
  const int64_t most_bits = rule->family == AF_INET ? 32 : 128;
  const std::optional<int64_t> bits =
      slash == std::string::npos ? most_bits : number_of(word.substr(slash + 1), 0, most_bits);
  rule->prefix_bits = static_cast<unsigned>(bits.value_or(0));
  return bits.has_value() && unmap_rule(rule);
}

bool parse_rule(const std::string &word, IpRule *rule) {
  for (const Numbered &numbered : NUMBERED) {
    if (word.rfind(numbered.prefix, 0) != 0)
      continue;
    const auto number =
        number_of(word.substr(numbered.prefix.size()), numbered.least, numbered.most);
    rule->kind = numbered.kind;
    rule->number = number.value_or(0);
    return number.has_value();
  }
  return parse_any(word, rule) || parse_address(word, rule);
}

bool is_same_prefix(const uint8_t *one, const uint8_t *other, unsigned bits) {
  const unsigned bytes = bits / 8;
  if (std::memcmp(one, other, bytes) != 0)
    return false;
  const unsigned rest = bits % 8;
  return rest == 0 || ((one[bytes] ^ other[bytes]) >> (8 - rest)) == 0;
}

bool has_address(const Peer &peer, const IpRule &rule) {
  if (peer.address.ss_family != rule.family)
    return false;
  if (rule.family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &peer.address, sizeof in);
    std::array<uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &in.sin_addr, bytes.size());
    return is_same_prefix(bytes.data(), rule.address.data(), rule.prefix_bits);
  }
  sockaddr_in6 in6{};
  std::memcpy(&in6, &peer.address, sizeof in6);
  return is_same_prefix(in6.sin6_addr.s6_addr, rule.address.data(), rule.prefix_bits);
}

} // namespace

bool IpRule::fits(const Peer &peer) const {
  const int of_peer = peer.address.ss_family;
  sockaddr_vm vsock{};
  std::memcpy(&vsock, &peer.address, sizeof vsock);
  switch (kind) {
  case RuleKind::any:
    return true;
  case RuleKind::family:
    return of_peer == family;
  case RuleKind::address:
    return has_address(peer, *this);
  case RuleKind::process:
    return of_peer == AF_UNIX && peer.process == number;
  case RuleKind::user:
    return of_peer == AF_UNIX && peer.user == number;
  case RuleKind::group:
    return of_peer == AF_UNIX && peer.group == number;
  case RuleKind::vsock_cid:
    return of_peer == AF_VSOCK && vsock.svm_cid == number;
  case RuleKind::vsock_port:
    return of_peer == AF_VSOCK && vsock.svm_port == number;
  }
  return false;
}

namespace {

std::string wrong(std::string given, const std::string &word) {
  given.insert(0, "filter ip: ");
  given.append(": \"").append(word).append(
      "\" is not a rule: use any, anyipv4, anyipv6, anyunix, anyvsock, ");
  given.append("ADDRESS, ADDRESS/BITS, pid:N, uid:N, gid:N, vsock-cid:N or vsock-port:N");
  return given;
}

} // namespace

std::vector<IpRule> ip_rules(const char *name, const std::vector<std::string> &values,
                             std::string *error) {
  std::vector<IpRule> rules;
  for (const std::string &value : values) {
    std::istringstream words(value);
    for (std::string word; std::getline(words, word, ',');) {
      IpRule rule;
      rule.word = std::string(name) + "=" + word;
      if (parse_rule(lower_case(word), &rule))
        rules.push_back(std::move(rule));
      else if (error->empty())
        *error = wrong(std::string(name) + "=" + value, word);
    }
  }
  return rules;
}

} // namespace asyncnbd::filters
