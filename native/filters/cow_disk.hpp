// What the cow filter keeps of a disk for all its clients: where each block is, those that have
// been copied, and requests that wait for each other or for a thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/filter.hpp"
#include "base/mutex.hpp"
#include "store/block_map.hpp"
#include "store/range_claims.hpp"
#include "store/temporary_file.hpp"

namespace asyncnbd::filters {

// Work for a thread that may block, with a claim on the blocks that it changes.
struct CowTask : store::RangeClaims::Claim {
  virtual void run() = 0; // may be its end

  CowTask *next_task = nullptr;

protected:
  ~CowTask() = default;
};

// Who works is shared with its threads: they look at it after their last task, which may have been
// the last of the disk.
class CowWork : public std::enable_shared_from_this<CowWork> {
public:
  explicit CowWork(base::Threads &threads) : threads_(threads) {}

  // False: the task is run when it gets its claim.
  bool claim(CowTask &task);
  // Of a task with a claim.
  void release(CowTask &task);
  // Any thread, also inside a completion.
  void run_elsewhere(CowTask &task);
  // Takes those away that wait for their claim and fulfil the condition.
  template <typename Condition> std::vector<CowTask *> withdraw(Condition condition) {
    std::vector<CowTask *> withdrawn;
    {
      std::lock_guard lock(mutex_);
      std::vector<CowTask *> found;
      claims_.for_each_waiting([&](store::RangeClaims::Claim &claim) {
        if (condition(as_task(claim)))
          found.push_back(&as_task(claim));
      });
      for (CowTask *task : found) {
        if (task->is_granted) // for another of them has gone
          continue;
        append_granted(claims_.remove(*task));
        withdrawn.push_back(task);
      }
    }
    start_workers();
    return withdrawn;
  }

private:
  // What is copied is written to a file: more threads would only wait for the same disk.
  static constexpr unsigned MAX_WORKERS = 4;

  static CowTask &as_task(store::RangeClaims::Claim &claim) {
    return static_cast<CowTask &>(claim);
  }
  void append(CowTask &task);
  void append_granted(store::RangeClaims::Claim *first);
  void start_workers();
  void work();

  base::Threads &threads_;
  base::Mutex<base::LockRank::cow_work> mutex_; // guards the rest
  store::RangeClaims claims_;
  CowTask *first_ = nullptr; // that are ready
  CowTask *last_ = nullptr;
  size_t ready_ = 0;
  unsigned workers_ = 0;
  unsigned busy_ = 0; // of them, in a task
};

// Where a block's content is.
enum class CowState : unsigned { below = 0, copied = 1, zero = 2 };

struct CowDisk final : backend::DiskState {
  CowDisk(std::unique_ptr<store::TemporaryFile> temporary, uint64_t size_bytes,
          base::Threads &threads)
      : size_bytes(size_bytes), file(std::move(temporary)),
        work(std::make_shared<CowWork>(threads)) {}

  uint64_t run(uint64_t first, uint64_t last, CowState *state) const {
    unsigned number;
    const uint64_t blocks = map.run(first, last, &number);
    *state = static_cast<CowState>(number);
    return blocks;
  }
  CowState state(uint64_t block) const { return static_cast<CowState>(map.get(block)); }
  [[nodiscard]] bool set(uint64_t first, uint64_t last, CowState state) {
    return map.set(first, last, static_cast<unsigned>(state));
  }

  const uint64_t size_bytes; // of what is below: a block at its end is copied up to there
  store::BlockMap map;
  const std::unique_ptr<store::TemporaryFile> file; // blocks are where they are on the disk
  const std::shared_ptr<CowWork> work;
};

} // namespace asyncnbd::filters
