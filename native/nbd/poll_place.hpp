// One connection's place in the idle poller, where it waits for its client without a thread.
#pragma once

#include <atomic>

#include "nbd/transmission.hpp"
#include "schedule/call_latency.hpp"
#include "schedule/idle_poller.hpp"
#include "schedule/pollable.hpp"

namespace asyncnbd::nbd {

// By whoever leads the connection, unless a function says more.
class PollPlace {
public:
  // `latency`: of the backend's calls, which others must wait for.
  PollPlace(Transmission &transmission, const schedule::CallLatency &latency)
      : shared_(transmission), latency_(latency),
        can_be_polled_(shared_.transport.can_be_polled()) {}

  // Whether the connection, when it has nothing to do, is to wait there.
  bool is_wanted(bool has_idled);
  // The leader will see for itself what arrives: nobody else need be woken.
  void suspend_input();
  // The leader waits here, or is busy for long: if others wait for its thread, another one takes
  // that up. By the leader, or a thread that sends for it.
  void before_delay();
  // The leader will wait on its own thread.
  void waits_here() {
    suspend_input();
    before_delay();
  }

  // Before a wait: it has its place, if it can have one. False: it cannot.
  bool enter(schedule::Pollable &pollable);
  // Waits: the connection is no longer the caller's. False: it still is, and must look again first.
  bool wait();

  // On the slow call detector's thread.
  void replace_worker();
  // Ends a wait, if there is one, after stop_requested has been set. Any thread.
  void wake_to_stop();
  // The connection does not wait there any more.
  void leave();

private:
  Transmission &shared_;
  const schedule::CallLatency &latency_;
  // Set by the leader. Pairs with Transmission::stop_requested: see wake_to_stop. Release, acquire
  // in replace_worker: the detector sees what it refers to.
  std::atomic<schedule::Registration *> registration_{nullptr};
  bool can_be_polled_;
  // Until it has idled: others would have had to wait for it. A hint, pairs with nothing.
  std::atomic<bool> keeps_thread_{false};
};

} // namespace asyncnbd::nbd
