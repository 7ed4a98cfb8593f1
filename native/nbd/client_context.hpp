// One client as its plugin sees it, from accept until nobody asks about it any more.
#pragma once

#include <atomic>

#include "base/mutex.hpp"
#include "host/context.hpp"
#include "transport/transport.hpp"

namespace asyncnbd::nbd {

// Thread-safe, apart from what CallContext says of its fields.
class ClientContext final : public host::CallContext {
public:
  using CallContext::CallContext;

  // nbdkit_disconnect. Before the transmission phase it is remembered.
  void disconnect(bool force) override;
  // Since then requests are refused.
  bool is_disconnected() const { return is_disconnected_.load(std::memory_order_relaxed); }

  // The transmission phase begins: from now on, this is what a forced disconnect cuts. nullptr: it
  // has not begun after all, or is over; no disconnect is at the transport any more.
  void set_transport(transport::Transport *transport);

private:
  std::atomic<bool> is_disconnected_{false};          // pairs with nothing: from some request on
  base::Mutex<base::LockRank::client_context> mutex_; // guards the rest
  bool is_cut_ = false;
  transport::Transport *transport_ = nullptr;
};

} // namespace asyncnbd::nbd
