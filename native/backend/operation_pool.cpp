// See operation_pool.hpp.
#include "backend/operation_pool.hpp"

#include <utility>

#include "base/invariant.hpp"

namespace asyncnbd::backend {

namespace {

constexpr size_t MAX_FREE = 512; // few clients constantly have more in flight

} // namespace

Operation *OperationPool::get() {
  std::lock_guard lock(mutex_);
  Operation *operation = free_;
  if (operation != nullptr) {
    free_count_--;
    free_ = operation->next_free_;
  } else if ((operation = make()) == nullptr) {
    return nullptr;
  }
  operation->is_in_use_ = true;
  return operation;
}

// With the lock.
Operation *OperationPool::make() {
  Operation *operation = slabs_.make();
  if (operation == nullptr)
    return nullptr;
  if (!operation->is_usable()) {
    OperationSlabs::destroy(operation);
    return nullptr;
  }
  operation->next_ = std::exchange(all_, operation);
  if (operation->next_ != nullptr)
    operation->next_->previous_ = operation;
  return operation;
}

void OperationPool::put(Operation *operation) {
  {
    std::lock_guard lock(mutex_);
    base::invariant(operation->is_in_use_, "an operation that is put was in use");
    operation->is_in_use_ = false;
    if (free_count_ < MAX_FREE) {
      operation->next_free_ = std::exchange(free_, operation);
      free_count_++;
      return;
    }
    unlink(operation);
  }
  OperationSlabs::destroy(operation);
}

void OperationPool::put_given_up(Operation *operation) {
  Call held; // destroyed without the lock
  {
    std::lock_guard lock(mutex_);
    held = std::exchange(operation->call, {});
  }
  put(operation);
}

void OperationPool::unlink(Operation *operation) {
  (operation->previous_ != nullptr ? operation->previous_->next_ : all_) = operation->next_;
  if (operation->next_ != nullptr)
    operation->next_->previous_ = operation->previous_;
}

void OperationPool::trim() {
  std::lock_guard lock(mutex_);
  while (free_ != nullptr) {
    Operation *operation = std::exchange(free_, free_->next_free_);
    unlink(operation);
    OperationSlabs::destroy(operation);
  }
  free_count_ = 0;
}

} // namespace asyncnbd::backend
