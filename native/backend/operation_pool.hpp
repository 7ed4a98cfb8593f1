// Operations for the requests of one backend. They are never freed, as a plugin may reply to one
// at any time, so what a backend no longer needs is kept for others.
#pragma once

#include <vector>

#include "backend/operation.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::backend {

// Thread-safe.
class OperationPool {
public:
  OperationPool() = default;
  ~OperationPool();
  OperationPool(const OperationPool &) = delete;
  OperationPool &operator=(const OperationPool &) = delete;

  // nullptr if the process has as many in flight as it can have.
  Operation *get();
  void put(Operation *operation);

  // Calls `visit` for each, in use or not, with the pool locked.
  template <typename Visit> void for_each(Visit visit) {
    std::lock_guard lock(mutex_);
    for (Operation *operation : all_)
      visit(*operation);
  }

private:
  base::Mutex<base::LockRank::operations> mutex_;
  std::vector<Operation *> free_;
  std::vector<Operation *> all_;
};

} // namespace asyncnbd::backend
