// See operation_pool.hpp.
#include "backend/operation_pool.hpp"

#include "base/mutex.hpp"

namespace asyncnbd::backend {

namespace {

struct Spare {
  base::Mutex<base::LockRank::spare_operations> mutex;
  std::vector<Operation *> operations;
};

Spare &spare() {
  static Spare *spare = new Spare;
  return *spare;
}

Operation *spare_or_new() {
  {
    std::lock_guard lock(spare().mutex);
    std::vector<Operation *> &operations = spare().operations;
    if (!operations.empty()) {
      Operation *operation = operations.back();
      operations.pop_back();
      return operation;
    }
  }
  auto *operation = new Operation;
  // One that cannot be used is lost; so must be what has put 16 million requests in flight.
  return operation->is_usable() ? operation : nullptr;
}

} // namespace

OperationPool::~OperationPool() {
  std::lock_guard lock(spare().mutex);
  std::vector<Operation *> &operations = spare().operations;
  operations.insert(operations.end(), all_.begin(), all_.end());
}

Operation *OperationPool::get() {
  std::lock_guard lock(mutex_);
  if (!free_.empty()) {
    Operation *operation = free_.back();
    free_.pop_back();
    return operation;
  }
  Operation *operation = spare_or_new();
  if (operation != nullptr)
    all_.push_back(operation);
  return operation;
}

void OperationPool::put(Operation *operation) {
  std::lock_guard lock(mutex_);
  free_.push_back(operation);
}

} // namespace asyncnbd::backend
