// Work on the blocks of a disk, on threads that may block. Tasks that change the same blocks run
// one after the other.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "base/mutex.hpp"
#include "base/threads.hpp"
#include "store/range_claims.hpp"

namespace asyncnbd::store {

// Work with a claim on the blocks that it changes.
struct BlockTask : RangeClaims::Claim {
  virtual void run() = 0; // may destroy the task

  BlockTask *next_task = nullptr;

protected:
  ~BlockTask() = default;
};

// Shared with its worker threads: they use it after their last task, when the disk may be gone.
class BlockWork : public std::enable_shared_from_this<BlockWork> {
public:
  explicit BlockWork(base::Threads &threads) : threads_(threads) {}

  // False: the task will run when it gets its claim.
  bool claim(BlockTask &task);
  // The same without waiting; false: no claim.
  bool try_claim(RangeClaims::Claim &claim);
  // Called by the owner of a claim.
  void release(RangeClaims::Claim &claim);
  // Any thread, also inside a completion.
  void run_elsewhere(BlockTask &task);
  // Removes and returns the tasks that wait for their claim and fulfil the condition.
  template <typename Condition> std::vector<BlockTask *> withdraw(Condition condition) {
    std::vector<BlockTask *> withdrawn;
    {
      std::lock_guard lock(mutex_);
      std::vector<BlockTask *> found;
      claims_.for_each_waiting([&](RangeClaims::Claim &claim) {
        if (condition(as_task(claim)))
          found.push_back(&as_task(claim));
      });
      for (BlockTask *task : found) {
        if (task->is_granted) // because another was removed
          continue;
        append_granted(claims_.remove(*task));
        withdrawn.push_back(task);
      }
    }
    start_workers();
    return withdrawn;
  }

private:
  // They copy data to a file: more threads would only wait for the same disk.
  static constexpr unsigned MAX_WORKERS = 4;

  // Waiting claims are always tasks.
  static BlockTask &as_task(RangeClaims::Claim &claim) { return static_cast<BlockTask &>(claim); }
  void append(BlockTask &task);
  void append_granted(RangeClaims::Claim *first);
  void start_workers();
  void work();

  base::Threads &threads_;
  base::Mutex<base::LockRank::block_work> mutex_; // guards the rest
  RangeClaims claims_;
  BlockTask *first_ = nullptr; // ready tasks
  BlockTask *last_ = nullptr;
  size_t ready_ = 0;
  unsigned workers_ = 0;
  unsigned busy_ = 0; // workers in a task
};

} // namespace asyncnbd::store
