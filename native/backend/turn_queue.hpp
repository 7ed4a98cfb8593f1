// Decides who may call a plugin, and who waits: as many calls at once as its thread model and
// --threads allow, in the order in which they were asked for.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "backend/resources.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::backend {

struct Request;

// Makes a call that has waited.
class TurnTaker {
public:
  virtual ~TurnTaker() = default;
  // Called with a turn, which it must end. `request`: as given to wait_for_turn. On a worker it may
  // block. Without workers it must not block, nor complete a request while the calling thread may
  // hold locks.
  virtual void take_turn(Request *request) = 0;
};

// For one plugin, or one export. All functions: any thread.
class TurnQueue final : public std::enable_shared_from_this<TurnQueue>, private base::Timer {
public:
  // `most`: turns at once. Workers are threads of the pool that make the calls that have waited:
  // one at first, and up to `most_workers` once calls turn out to be long. With 0 workers, the
  // thread that ends a turn makes the next call: for calls that only queue something.
  TurnQueue(unsigned most, unsigned most_workers, const Resources &resources)
      : most_(most), most_workers_(most_workers), resources_(resources) {}
  ~TurnQueue() override { resources_.timers.cancel(*this); }

  // Takes a turn, if one is free and nobody waits for it.
  bool try_begin();
  void end();

  // Waits for a turn and takes it: for threads that may block. For std::unique_lock.
  void lock();
  void unlock() { end(); }

  // Without workers, calls only queue something: any thread with a turn can make one.
  bool has_workers() const { return most_workers_ > 0; }
  // True: the request's turn will come, on a worker. Without workers, perhaps before this returns.
  // If the system has no thread for a worker and the caller `may_block`, the caller acts as the
  // worker while earlier requests wait. False: the turn will not come, because the system has no
  // thread at all for it; this cannot happen without workers.
  bool wait_for_turn(TurnTaker &taker, Request *request, bool may_block = false);
  // Removes the taker's requests that still wait, and returns them.
  std::vector<Request *> withdraw(const TurnTaker &taker);
  // Returns when no thread is in the taker's take_turn. To be called after its last request.
  void wait_for_workers(const TurnTaker &taker);

private:
  using Mutex = base::Mutex<base::LockRank::turns>;
  using Lock = std::unique_lock<Mutex>;
  struct Waiting {
    TurnTaker *taker; // nullptr: a thread
    Request *request;
    bool *is_granted; // for a thread
  };

  void on_due() override;
  void look_later();
  bool do_calls_last();
  bool take_locked();
  void serve_waiting(Lock &lock);
  bool work_instead(Lock &lock);
  void grant_first();
  void call_first(Lock &lock);
  void call_here(Lock &lock);
  size_t usable_workers() const;
  void start_workers();
  void work();
  bool calls_next(Lock &lock);
  void leave_work(Lock &lock);

  const unsigned most_;
  const unsigned most_workers_;
  const Resources resources_;
  // Calls in progress; and how many wait, changed with the mutex held. Sequentially consistent: a
  // waiter is counted before it looks for a free turn, and the end of a turn looks for waiters
  // after that, so one of the two sees the other.
  std::atomic<unsigned> running_{0};
  std::atomic<unsigned> waiting_count_{0};

  Mutex mutex_; // guards what follows
  std::deque<Waiting> waiting_;
  std::vector<const TurnTaker *> called_; // takers that have a thread in take_turn
  bool is_calling_here_ = false; // a thread that is not a worker makes the calls that have waited
  base::Condition changed_;
  unsigned workers_ = 0;
  unsigned wanted_workers_ = 1;
  uint64_t ended_waits_ = 0; // how many waits have ended with a turn
  uint64_t ended_waits_seen_ = 0;
  unsigned inside_calls_ = 0; // the workers' share, in 256ths, averaged over the timer's checks
  bool is_watched_ = false;   // the timer is set
};

} // namespace asyncnbd::backend
