// See client_context.hpp.
#include "connection/client_context.hpp"

#include <mutex>

namespace asyncnbd::connection {

void ClientContext::disconnect(bool force) {
  is_disconnected_.store(true, std::memory_order_relaxed);
  if (!force)
    return;
  std::shared_ptr<transport::Transport> transport;
  {
    std::lock_guard lock(mutex_);
    is_cut_ = true;
    transport = transport_.lock();
  }
  if (transport != nullptr)
    transport->abort();
}

void ClientContext::set_transport(const std::shared_ptr<transport::Transport> &transport) {
  bool is_cut = false;
  {
    std::lock_guard lock(mutex_);
    transport_ = transport;
    is_cut = is_cut_;
  }
  if (is_cut && transport != nullptr)
    transport->abort();
}

} // namespace asyncnbd::connection
