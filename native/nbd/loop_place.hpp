// One connection's place on the event loop that its backend's callbacks run on: there large writes
// are received by the thread that uses them, while they are in its cache, and a client that waits
// for each of its requests waits for one thread only.
#pragma once

#include <atomic>
#include <cstdint>

#include "nbd/transmission.hpp"
#include "schedule/loop_poller.hpp"
#include "schedule/pollable.hpp"

namespace asyncnbd::nbd {

// What requests are like of late.
class Tendency {
public:
  // Of each request. True: those that were so have been eight more than the others, and have not
  // lost that lead since. A change costs something.
  bool note(bool is_so);

private:
  unsigned lead_ = 0;
  bool holds_ = false;
};

// By whoever leads the connection, unless a function says more.
class LoopPlace {
public:
  explicit LoopPlace(Transmission &transmission);

  // Whether there is a loop that it could move to.
  bool exists() const { return loop_ != nullptr; }
  // If so, of each request before it is submitted; `is_alone`: the client waits for it.
  void note(const backend::Request &request, bool is_alone);
  // Whether the client's requests had best be received there.
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
  Transmission &shared_;
  schedule::LoopPoller *loop_; // nullptr: there is none, or no way to wait there
  // Set by the leader. Pairs with Transmission::stop_requested: see wake_to_stop.
  std::atomic<schedule::Registration *> registration_{nullptr};
  Tendency sends_large_writes_;
  Tendency waits_for_each_;
  bool is_wanted_ = false;
};

} // namespace asyncnbd::nbd
