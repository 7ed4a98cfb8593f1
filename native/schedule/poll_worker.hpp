// One of the threads that serve an idle poller's pollables, and how another one takes its place.
#pragma once

#include <atomic>
#include <cstdint>
#include <sys/types.h>

#include "base/clock.hpp"
#include "schedule/leader_token.hpp"
#include "schedule/registrations.hpp"
#include "schedule/send_ahead_limit.hpp"
#include "schedule/slow_call_detector.hpp"
#include "schedule/spinner.hpp"

namespace asyncnbd::schedule {

// Starts another worker where one has been replaced: the idle poller.
class WorkerStarter {
public:
  virtual ~WorkerStarter() = default;
  virtual void start_worker() = 0;
};

// Lives as long as its thread is a worker. To the slow call detector a turn is a call: while it
// lasts, another thread can take the token, and so replace this worker.
class PollWorker final : public SlowCallListener {
public:
  PollWorker(WorkerStarter &starter, const base::Clock &clock, SlowCallDetector &detector,
             SpinLimit &spin_limit, unsigned spin_us);
  ~PollWorker() override;
  PollWorker(const PollWorker &) = delete;
  PollWorker &operator=(const PollWorker &) = delete;

  // Gives a pollable that the caller has a turn. False: this worker has been replaced meanwhile.
  bool serve(Registration &registration);

  template <typename IsReady> bool spin(IsReady is_ready) { return spinner_.spin(is_ready); }

  // SlowCallListener
  bool on_slow_call(uint64_t turn) override;

  bool has_turn() const { return turns_.current_call() != 0; }

  // Makes another thread a worker instead of this one; does nothing if it is not in a turn. By its
  // own thread, or one that keeps it from ending meanwhile.
  void replace();

  int64_t turn_began_ms() const { return turn_began_ms_.load(std::memory_order_relaxed); }

  // Whether pollables may have memory to release, a while from now.
  bool may_release_memory() const { return may_release_memory_; }
  void set_may_release_memory(bool may) { may_release_memory_ = may; }

  // nullptr if the calling thread is no worker.
  static PollWorker *of_this_thread();

private:
  LeaderToken turns_;
  std::atomic<int64_t> turn_began_ms_{0}; // an estimate, pairs with nothing
  Spinner spinner_;
  SendAheadLimit send_ahead_limit_;
  WorkerStarter &starter_;
  const base::Clock &clock_;
  SlowCallDetector &detector_;
  const pid_t thread_;
  bool may_release_memory_ = true;
};

// Counts workers that could not be replaced because the system had no thread, and tries again at
// each tick.
class UnfilledWorkers final : public SlowCallListener {
public:
  UnfilledWorkers(WorkerStarter &starter, SlowCallDetector &detector);

  void add() { change_by(1); }
  // False: there is none to take.
  bool take() { return change_by(-1); }

  // SlowCallListener
  bool on_slow_call(uint64_t) override;

private:
  bool change_by(int change);

  WorkerStarter &starter_;
  // Twice their number, plus one if that is not 0: so the detector sees a call in progress as long
  // as there are any. A count: pairs with nothing but the detector's loads of it.
  CallWord word_{0};
};

} // namespace asyncnbd::schedule
