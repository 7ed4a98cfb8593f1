// Decides which clients are let in, by their address, or by their process on this machine;
// ip_rules.hpp has the rules.
#include <algorithm>
#include <cstring>
#include <netinet/in.h>
#include <utility>
#include <vector>

#include "filters/debug_flags.hpp"
#include "filters/ip_rules.hpp"
#include "filters/registry.hpp"
#include "host/abi.hpp"
#include "host/client_log.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;

// Converts an IPv6 address that stands for an IPv4 one, as on a socket for both.
void unmap(sockaddr_storage *address) {
  if (address->ss_family != AF_INET6)
    return;
  sockaddr_in6 in6{};
  std::memcpy(&in6, address, sizeof in6);
  if (!IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
    return;
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = in6.sin6_port;
  std::memcpy(&in.sin_addr, &in6.sin6_addr.s6_addr[12], sizeof in.sin_addr);
  std::memcpy(address, &in, sizeof in);
}

class IpFilter final : public backend::Filter {
public:
  IpFilter(std::vector<IpRule> allow, std::vector<IpRule> deny)
      : allow_(std::move(allow)), deny_(std::move(deny)) {}

  const char *name() const override { return "ip"; }

  bool preconnect(const backend::Level &behind, bool readonly) override {
    if (is_welcome(behind.bottom->context()))
      return behind.preconnect(readonly);
    host::ContextScope scope(&behind.bottom->context());
    host::log_error("%s", refusal(behind.bottom->context()).c_str());
    return false;
  }

  // Needed if preconnect was not called.
  bool admits(const backend::Opening &opening, std::string *error) override {
    if (is_welcome(opening.context))
      return true;
    *error = refusal(opening.context);
    return false;
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return std::move(*below);
  }

private:
  static std::string refusal(const host::CallContext &context) {
    return "filter ip: the client is refused by the rules: " + host::peer_of(context.peer_fd);
  }

  // A client with an unknown address is not let in.
  bool is_welcome(host::CallContext &context) const {
    host::ContextScope scope(&context);
    Peer peer;
    socklen_t length = sizeof peer.address;
    if (nbdkit_peer_name(reinterpret_cast<sockaddr *>(&peer.address), &length) == -1)
      return false;
    unmap(&peer.address);
    if (peer.address.ss_family == AF_UNIX) {
      peer.process = known(needs(IpRule::Kind::process), nbdkit_peer_pid);
      peer.user = known(needs(IpRule::Kind::user), nbdkit_peer_uid);
      peer.group = known(needs(IpRule::Kind::group), nbdkit_peer_gid);
    }
    const auto fits = [&peer](const IpRule &rule) {
      const bool does = rule.fits(peer);
      if (debug::ip_rules.is_on())
        host::log_debug("ip: match source with %s => %s", rule.word.c_str(), does ? "yes" : "no");
      return does;
    };
    return std::any_of(allow_.begin(), allow_.end(), fits) ||
           std::none_of(deny_.begin(), deny_.end(), fits);
  }

  static int64_t known(bool is_needed, int64_t (*ask)()) { return is_needed ? ask() : -1; }
  bool needs(IpRule::Kind kind) const {
    const auto is_it = [kind](const IpRule &rule) { return rule.kind == kind; };
    return std::any_of(allow_.begin(), allow_.end(), is_it) ||
           std::any_of(deny_.begin(), deny_.end(), is_it);
  }

  const std::vector<IpRule> allow_;
  const std::vector<IpRule> deny_;
};

void log_rules(const std::vector<IpRule> &rules) {
  for (const IpRule &rule : rules)
    host::log_debug("ip: parsed %s", rule.word.c_str());
}

// Options: allow and deny, lists of rules as in nbdkit's parameters of these names. A client that
// matches neither list is let in, and so is one that matches both. nullptr, with a message in
// `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_ip(const FilterOptions &options, const backend::Resources &,
                                         std::string *error) {
  OptionReader reader("ip", options);
  const std::vector<std::string> allow = reader.list("allow");
  const std::vector<std::string> deny = reader.list("deny");
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  std::vector<IpRule> allowed = ip_rules("allow", allow, error);
  std::vector<IpRule> denied = ip_rules("deny", deny, error);
  if (!error->empty())
    return nullptr;
  if (debug::ip_rules.is_on()) {
    log_rules(allowed);
    log_rules(denied);
  }
  return std::make_unique<IpFilter>(std::move(allowed), std::move(denied));
}

const Registered registered_ip("ip", make_ip);

} // namespace

} // namespace asyncnbd::filters
