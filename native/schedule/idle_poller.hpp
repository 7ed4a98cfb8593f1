// Pollables wait for their clients in one poller: a few threads serve many of them, and an idle one
// needs no thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/clock.hpp"
#include "base/mutex.hpp"
#include "base/threads.hpp"
#include "schedule/poll_table.hpp"
#include "schedule/poll_worker.hpp"

namespace asyncnbd::schedule {

class Pollable;

// All functions: any thread, unless their comments say otherwise.
class IdlePoller final : private WorkerStarter {
public:
  // Has at most as many workers as cores.
  IdlePoller(const base::Clock &clock, base::Threads &threads, SlowCallDetector &detector,
             SpinLimit &spin_limit, Poller &poller, unsigned cores);
  IdlePoller(const IdlePoller &) = delete;
  IdlePoller &operator=(const IdlePoller &) = delete;

  // Counts those that may wait here; candidate_ends returns how many are left. Workers spin for
  // spin_us before they sleep.
  void candidate_begins(unsigned spin_us);
  unsigned candidate_ends();

  // Whether there are so many candidates that those with nothing to do should wait here.
  bool is_open() const { return is_open_.load(std::memory_order_relaxed); }

  // Where they wait.
  PollTable &table() { return table_; }

  // The calling thread has nothing else to do: it becomes a worker if there are too few of them.
  void offer_thread();

  // On the slow call detector's thread: the worker that serves this pollable will not be done soon,
  // so another thread replaces it.
  static void replace_worker(Registration &registration);

  // Of the calling thread: while it is busy with a pollable, others wait for it.
  static bool delays_others();
  // It was a worker, but has been replaced in the middle of this turn.
  static bool is_replaced();
  // Before the calling thread waits, or is busy for long: another worker replaces it. Does nothing
  // if it is no worker.
  static void before_delay();

private:
  int64_t now_ms() const;
  void work();
  void start_worker() override;
  Registration *next_ready(PollWorker &worker);
  bool release_idle_memory(PollWorker &worker);
  Registration *release_idle_memory(int64_t now, PollWorker &worker);

  // These differ, so that it does not open and close with every client that comes and goes.
  static constexpr unsigned OPEN_FROM = 8;
  static constexpr unsigned CLOSED_BELOW = 4;

  const base::Clock &clock_;
  base::Threads &threads_;
  SlowCallDetector &detector_;
  SpinLimit &spin_limit_;
  PollTable table_;
  const unsigned max_workers_;
  // Pairs with the table's count, sequentially consistent: see offer_thread.
  std::atomic<unsigned> workers_{0};
  // Counts and settings: a thread that reads an old value only decides a little later.
  std::atomic<unsigned> candidates_{0};
  std::atomic<bool> is_open_{false};
  std::atomic<unsigned> spin_us_{0};
  std::atomic<int64_t> release_from_ms_{0};
  // Held by the one worker that releases memory.
  base::Mutex<base::LockRank::idle_memory> releasing_;
  UnfilledWorkers unfilled_workers_;
};

} // namespace asyncnbd::schedule
