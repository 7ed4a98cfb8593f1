// The TLS contexts that servers have loaded, by numbers that JavaScript can pass to any of its
// threads.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/mutex.hpp"
#include "transport/tls.hpp"

namespace asyncnbd::addon {

// Any thread.
class TlsContexts {
public:
  uint32_t add(std::shared_ptr<transport::TlsContext> context) {
    std::lock_guard lock(mutex_);
    all_[++last_] = std::move(context);
    return last_;
  }

  void drop(uint32_t number) {
    std::lock_guard lock(mutex_);
    all_.erase(number);
  }

  // nullptr: it has been dropped.
  std::shared_ptr<transport::TlsContext> find(uint32_t number) {
    std::lock_guard lock(mutex_);
    auto found = all_.find(number);
    return found == all_.end() ? nullptr : found->second;
  }

private:
  base::Mutex<base::LockRank::tls_contexts> mutex_; // guards the rest
  uint32_t last_ = 0;
  std::map<uint32_t, std::shared_ptr<transport::TlsContext>> all_;
};

} // namespace asyncnbd::addon
