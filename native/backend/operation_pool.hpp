// Operations for the requests of one backend. A few are reused; the others are freed after a burst.
#pragma once

#include <cstddef>

#include "backend/operation.hpp"
#include "backend/resources.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::backend {

// Thread-safe. Outlives its operations.
class OperationPool {
public:
  explicit OperationPool(OperationSlabs &slabs) : slabs_(slabs) {}
  ~OperationPool() { trim(); }
  OperationPool(const OperationPool &) = delete;
  OperationPool &operator=(const OperationPool &) = delete;

  // nullptr if memory is short, or if the process has reached its limit of operations in flight.
  Operation *get();
  void put(Operation *operation);
  // For an operation that was given up, perhaps in a `for_each` that is still looking at its
  // request.
  void put_given_up(Operation *operation);

  // Frees operations that are not in use.
  void trim();

  // Calls `visit` for each operation, in use or not, with the pool locked: none can be put
  // meanwhile.
  template <typename Visit> void for_each(Visit visit) {
    std::lock_guard lock(mutex_);
    for (Operation *operation = all_; operation != nullptr; operation = operation->next_)
      visit(*operation);
  }

private:
  Operation *make();
  void unlink(Operation *operation);

  OperationSlabs &slabs_;
  base::Mutex<base::LockRank::operations> mutex_; // guards the rest
  Operation *all_ = nullptr;
  Operation *free_ = nullptr;
  size_t free_count_ = 0;
};

} // namespace asyncnbd::backend
