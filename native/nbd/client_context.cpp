// See client_context.hpp.
#include "nbd/client_context.hpp"

#include <mutex>

namespace asyncnbd::nbd {

// Aborted with the lock held, so that the transport lives meanwhile: that neither waits nor calls.
void ClientContext::disconnect(bool force) {
  is_disconnected_.store(true, std::memory_order_relaxed);
  if (!force)
    return;
  std::lock_guard lock(mutex_);
  is_cut_ = true;
  if (transport_ != nullptr)
    transport_->abort();
}

void ClientContext::set_transport(transport::Transport *transport) {
  std::lock_guard lock(mutex_);
  transport_ = transport;
  if (is_cut_ && transport_ != nullptr)
    transport_->abort();
}

} // namespace asyncnbd::nbd
