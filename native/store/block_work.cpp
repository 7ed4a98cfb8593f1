// See block_work.hpp.
#include "store/block_work.hpp"

#include "base/invariant.hpp"

namespace asyncnbd::store {

bool BlockWork::claim(BlockTask &task) {
  std::lock_guard lock(mutex_);
  return claims_.add(task);
}

bool BlockWork::try_claim(RangeClaims::Claim &claim) {
  std::lock_guard lock(mutex_);
  if (claims_.add(claim))
    return true;
  claims_.remove(claim); // nobody waits for it yet
  return false;
}

void BlockWork::release(RangeClaims::Claim &claim) {
  {
    std::lock_guard lock(mutex_);
    append_granted(claims_.remove(claim));
  }
  start_workers();
}

// Before this returns, a worker may have run the task. If it was the disk's last one, nobody else
// may keep this object.
void BlockWork::run_elsewhere(BlockTask &task) {
  const std::shared_ptr<BlockWork> keep = shared_from_this();
  {
    std::lock_guard lock(mutex_);
    append(task);
  }
  start_workers();
}

void BlockWork::append(BlockTask &task) {
  task.next_task = nullptr;
  (first_ == nullptr ? first_ : last_->next_task) = &task;
  last_ = &task;
  ready_++;
}

void BlockWork::append_granted(RangeClaims::Claim *first) {
  for (RangeClaims::Claim *claim = first; claim != nullptr; claim = claim->next_granted)
    append(as_task(*claim));
}

void BlockWork::start_workers() {
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (ready_ <= workers_ - busy_ || workers_ == MAX_WORKERS)
        return;
      workers_++;
    }
    if (threads_.run([keep = shared_from_this()] { keep->work(); }))
      continue;
    work(); // the system is out of threads: run it here
    return;
  }
}

void BlockWork::work() {
  for (;;) {
    BlockTask *task;
    {
      std::lock_guard lock(mutex_);
      task = first_;
      if (task == nullptr) {
        workers_--;
        return;
      }
      first_ = task->next_task;
      ready_--;
      busy_++;
    }
    task->run();
    std::lock_guard lock(mutex_);
    base::invariant(busy_ > 0, "a task that ends was counted");
    busy_--;
  }
}

} // namespace asyncnbd::store
