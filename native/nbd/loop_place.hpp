// One connection's place on the event loop that its backend's callbacks run on: there large writes
// are received by the thread that uses them, while they are in its cache.
#pragma once

#include <atomic>
#include <cstdint>

#include "nbd/transmission.hpp"
#include "schedule/loop_poller.hpp"
#include "schedule/pollable.hpp"

namespace asyncnbd::nbd {

// By whoever leads the connection, unless a function says more.
class LoopPlace {
public:
  explicit LoopPlace(Transmission &transmission);

  // Of each request, before it is submitted.
  void note(const backend::Request &request) {
    if (loop_ != nullptr)
      note_traffic(request);
  }
  // Whether the client sends what had best be received there.
  bool is_wanted() const { return is_wanted_; }

  // Leads there from now on, beginning soon. False: that cannot be, and the caller still leads.
  bool enter(schedule::Pollable &pollable);
  bool is_there() const { return registration_.load(std::memory_order_relaxed) != nullptr; }
  // Waits there, for something new or for no more than its turn: the connection is no longer the
  // caller's. False: it still is, and must look again first.
  bool wait();
  bool wait_for_turn();
  // Another thread leads from now on.
  void leave();

  // Ends a wait, if there is one, after stop_requested has been set. Any thread.
  void wake_to_stop();

private:
  void note_traffic(const backend::Request &request);

  Transmission &shared_;
  schedule::LoopPoller *loop_; // nullptr: there is none, or no way to wait there
  // Set by the leader. Pairs with Transmission::stop_requested: see wake_to_stop.
  std::atomic<schedule::Registration *> registration_{nullptr};
  unsigned large_writes_ = 0; // of late, less what else there was
  bool is_wanted_ = false;
};

} // namespace asyncnbd::nbd
