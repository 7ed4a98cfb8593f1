// See cow_disk.hpp.
#include "filters/cow_disk.hpp"

namespace asyncnbd::filters {

bool CowWork::claim(CowTask &task) {
  std::lock_guard lock(mutex_);
  return claims_.add(task);
}

void CowWork::release(CowTask &task) {
  {
    std::lock_guard lock(mutex_);
    append_granted(claims_.remove(task));
  }
  start_workers();
}

// A worker may have run the task, the last of the disk, before this returns.
void CowWork::run_elsewhere(CowTask &task) {
  const std::shared_ptr<CowWork> keep = shared_from_this();
  {
    std::lock_guard lock(mutex_);
    append(task);
  }
  start_workers();
}

void CowWork::append(CowTask &task) {
  task.next_task = nullptr;
  (first_ == nullptr ? first_ : last_->next_task) = &task;
  last_ = &task;
  ready_++;
}

void CowWork::append_granted(store::RangeClaims::Claim *first) {
  for (store::RangeClaims::Claim *claim = first; claim != nullptr; claim = claim->next_granted)
    append(as_task(*claim));
}

void CowWork::start_workers() {
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (ready_ <= workers_ - busy_ || workers_ == MAX_WORKERS)
        return;
      workers_++;
    }
    if (threads_.run([keep = shared_from_this()] { keep->work(); }))
      continue;
    work(); // better late than never: the system is out of threads
    return;
  }
}

void CowWork::work() {
  for (;;) {
    CowTask *task;
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
    busy_--;
  }
}

} // namespace asyncnbd::filters
