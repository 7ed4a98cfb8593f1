// Pollables that wait for their clients, all in one poller: so a few threads serve many of them,
// and one that is idle needs none.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/mutex.hpp"
#include "schedule/poll_worker.hpp"
#include "schedule/poller.hpp"
#include "schedule/registrations.hpp"

namespace asyncnbd::schedule {

class Pollable;
class Runtime;

// All functions: any thread, unless they say more.
class IdlePoller {
public:
  // With as many workers as cores at the most.
  IdlePoller(Runtime &runtime, Poller &poller, unsigned cores);
  IdlePoller(const IdlePoller &) = delete;
  IdlePoller &operator=(const IdlePoller &) = delete;

  // Counts those that may wait here; the end of one returns how many are left. Workers spin for so
  // long before they sleep.
  void candidate_begins(unsigned spin_us);
  unsigned candidate_ends();

  // Whether there are so many candidates that those with nothing to do should wait here.
  bool is_open() const { return is_open_.load(std::memory_order_relaxed); }

  // Before a pollable waits for the first time. nullptr: it cannot wait here.
  Registration *add(Pollable &pollable, const PolledFds &fds);

  // By who has the pollable: from now on it waits, unless it was woken meanwhile and must look
  // again, or cannot wait here any more and is to be removed.
  enum class Wait { begun, woken, impossible };
  Wait wait(Registration &registration);

  // By who has the pollable: it does not wait here for a while, so nobody need hear of its input.
  void suspend_input(Registration &registration);

  // By who has the pollable, which does not come back.
  void remove(Registration &registration);

  // The calling thread has nothing else to do: it serves pollables as long as there are fewer
  // workers than there should be.
  void offer_thread();

  // On the slow call detector's thread: whoever serves this pollable will not be done soon, so
  // another thread takes its part among the workers.
  static void replace_worker(Registration &registration);

  // Of the calling thread: while it is busy with a pollable, others wait for it.
  static bool delays_others();
  // It was so, but another thread has taken its part since.
  static bool is_replaced();
  // It will wait, or be busy for long: others shall not wait with it. Nothing if they do not.
  static void before_delay();

private:
  friend class PollWorker;
  friend class UnfilledWorkers;

  int64_t now_ms() const;
  void work();
  void start_worker();
  Registration *next_ready(PollWorker &worker);
  bool release_idle_memory(PollWorker &worker);
  Registration *release_idle_memory(int64_t now, PollWorker &worker);

  // The distance keeps it from opening and closing with every client that comes and goes.
  static constexpr unsigned OPEN_FROM = 8;
  static constexpr unsigned CLOSED_BELOW = 4;

  Runtime &runtime_;
  Poller &poller_;
  const unsigned max_workers_;
  // These two pair with each other, sequentially consistent: see offer_thread.
  std::atomic<unsigned> workers_{0};
  std::atomic<unsigned> pollables_{0};
  // Counts and settings: who reads an old value decides a little later.
  std::atomic<unsigned> candidates_{0};
  std::atomic<bool> is_open_{false};
  std::atomic<unsigned> spin_us_{0};
  std::atomic<int64_t> release_from_ms_{0};
  // Is held by the one worker that releases memory.
  base::Mutex<base::LockRank::idle_memory> releasing_;
  Registrations registrations_;
  UnfilledWorkers unfilled_workers_;
};

} // namespace asyncnbd::schedule
