// The context of a call that is made for all clients, not for one.
#pragma once

#include "host/context.hpp"

namespace asyncnbd::host {

// It has no peer, and the number 0 in messages; connections begin with 1.
class NoClient final : public CallContext {
public:
  // For the server and plugin of `first`, the client that needs it first.
  explicit NoClient(const CallContext &first) : CallContext(first.server, first.plugin_name, 0) {
    tls = first.tls;
    instance = first.instance;
  }

  void disconnect(bool) override {} // there is no client
};

} // namespace asyncnbd::host
