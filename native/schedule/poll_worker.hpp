// One of the threads that serve an idle poller's pollables, and how another one takes its place.
#pragma once

#include <atomic>
#include <cstdint>
#include <sys/types.h>

#include "schedule/leader_token.hpp"
#include "schedule/registrations.hpp"
#include "schedule/send_ahead_limit.hpp"
#include "schedule/slow_call_detector.hpp"
#include "schedule/spinner.hpp"

namespace asyncnbd::schedule {

class IdlePoller;
class Runtime;

// For as long as the thread has a part among the workers. A turn is to the slow call detector what
// a call into a plugin is to a connection: while one lasts, the part can be taken away.
class PollWorker final : public SlowCallListener {
public:
  PollWorker(IdlePoller &poller, Runtime &runtime, unsigned spin_us);
  ~PollWorker() override;
  PollWorker(const PollWorker &) = delete;
  PollWorker &operator=(const PollWorker &) = delete;

  // A turn of a pollable that the caller has. False: the poller has another worker instead.
  bool serve(Registration &registration);

  template <typename IsReady> bool spin(IsReady is_ready) { return spinner_.spin(is_ready); }

  // SlowCallListener
  void on_slow_call(uint64_t turn) override;

  bool has_turn() const { return turns_.current_call() != 0; }

  // Any thread on which this worker cannot end meanwhile. Nothing if it has no turn.
  void replace();

  int64_t turn_began_ms() const { return turn_began_ms_.load(std::memory_order_relaxed); }

  // Whether some may have memory to release, a while from now.
  bool may_release_memory() const { return may_release_memory_; }
  void set_may_release_memory(bool may) { may_release_memory_ = may; }

  // nullptr if the calling thread is none.
  static PollWorker *of_this_thread();

private:
  LeaderToken turns_;
  std::atomic<int64_t> turn_began_ms_{0}; // an estimate, pairs with nothing
  Spinner spinner_;
  SendAheadLimit send_ahead_limit_;
  IdlePoller &poller_;
  Runtime &runtime_;
  const pid_t thread_;
  bool may_release_memory_ = true;
};

// Workers that could not be replaced, since the system had no thread: tries again at each tick.
class UnfilledWorkers final : public SlowCallListener {
public:
  UnfilledWorkers(IdlePoller &poller, SlowCallDetector &detector);

  void add() { change_by(1); }
  // False: there is none to take.
  bool take() { return change_by(-1); }

  // SlowCallListener
  void on_slow_call(uint64_t) override;

private:
  bool change_by(int change);

  IdlePoller &poller_;
  // To the detector it is a call as long as there are any: twice their number, plus one if that is
  // not 0. A count: pairs with nothing but the detector's loads of it.
  CallWord word_{0};
};

} // namespace asyncnbd::schedule
