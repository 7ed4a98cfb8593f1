// What a plugin is told where a call is not one client's, but made for all of them.
#pragma once

#include "host/context.hpp"

namespace asyncnbd::host {

// Without a peer, and its number in messages is 0: those of connections begin with 1.
class NoClient final : public CallContext {
public:
  // Of the same server and plugin; `first`: on whose behalf it is needed first.
  explicit NoClient(const CallContext &first) : CallContext(first.server, first.plugin_name, 0) {
    tls = first.tls;
    instance = first.instance;
  }

  void disconnect(bool) override {} // from nobody
};

} // namespace asyncnbd::host
