// Who may call a plugin, and who waits: as many calls at once as its thread model and --threads
// allow, in the order in which they were asked for.
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

// Calls what has waited.
class TurnTaker {
public:
  virtual ~TurnTaker() = default;
  // With a turn, which is to be ended. `request`: as given to wait_for_turn. On a worker, where it
  // may block; without workers it must not, nor complete to anybody under whose locks that would
  // be.
  virtual void take_turn(Request *request) = 0;
};

// Of one plugin, or of one export. All functions: any thread.
class TurnQueue final : public std::enable_shared_from_this<TurnQueue>, private base::Timer {
public:
  // `most`: turns at once. Workers are threads of the pool that make the calls that have waited;
  // there is one at first, and more, up to `most_workers`, once calls turn out to last. If there
  // are to be none, whoever ends a turn makes the next call: for calls that only queue something.
  TurnQueue(unsigned most, unsigned most_workers, const Resources &resources)
      : most_(most), most_workers_(most_workers), resources_(resources) {}
  ~TurnQueue() override { resources_.timers.cancel(*this); }

  // Takes a turn, if there is one and nobody waits for it.
  bool try_begin();
  void end();

  // Takes a turn, when it comes: for what may block. For std::unique_lock.
  void lock();
  void unlock() { end(); }

  // Without, calls only queue something: whoever has a turn can make one.
  bool has_workers() const { return most_workers_ > 0; }
  // The request's turn will come, on a worker. Without workers, perhaps before this returns; and
  // where the system has no thread for a worker, too, if the caller `may_block`: then it is one for
  // as long as requests wait that have come before. False: the turn will not come, as the system
  // has no thread at all for it; never without workers.
  bool wait_for_turn(TurnTaker &taker, Request *request, bool may_block = false);
  // What of the taker's still waits, and does no more.
  std::vector<Request *> withdraw(const TurnTaker &taker);
  // Returns when no thread is in take_turn of the taker's. After its last request.
  void wait_for_workers(const TurnTaker &taker);

private:
  using Mutex = base::Mutex<base::LockRank::turns>;
  using Lock = std::unique_lock<Mutex>;
  struct Waiting {
    TurnTaker *taker; // nullptr: a thread
    Request *request;
    bool *is_granted; // of a thread
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
  void start_workers();
  void work();
  bool calls_next(Lock &lock);
  void leave_work(Lock &lock);

  const unsigned most_;
  const unsigned most_workers_;
  const Resources resources_;
  // Calls in progress; and how many wait, changed with the mutex held. Sequentially consistent:
  // who waits is counted before it looks for a free turn, and who ends a turn looks for who waits
  // after that, so that one of the two sees the other.
  std::atomic<unsigned> running_{0};
  std::atomic<unsigned> waiting_count_{0};

  Mutex mutex_; // guards what follows
  std::deque<Waiting> waiting_;
  std::vector<const TurnTaker *> called_; // whose take_turn threads are in
  bool is_calling_here_ = false; // a thread that is no worker makes the calls that have waited
  base::Condition changed_;
  unsigned workers_ = 0;
  unsigned wanted_workers_ = 1;
  uint64_t ended_waits_ = 0; // how often somebody's turn has come
  uint64_t ended_waits_seen_ = 0;
  unsigned inside_calls_ = 0; // of the workers, in 256ths, averaged over what the timer has seen
  bool is_watched_ = false;   // by the timer
};

} // namespace asyncnbd::backend
