// Pollables that the thread of an event loop serves, such as JavaScript's: one at a time, each
// until it would have to wait, so that the loop can go on with its other work.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/clock.hpp"
#include "schedule/poll_table.hpp"

namespace asyncnbd::schedule {

class LoopPoller {
public:
  LoopPoller(const base::Clock &clock, std::unique_ptr<Poller> poller)
      : clock_(clock), poller_(std::move(poller)), table_(clock, *poller_) {}
  LoopPoller(const LoopPoller &) = delete;
  LoopPoller &operator=(const LoopPoller &) = delete;

  // ---- the loop's thread

  // Gives a turn to one pollable that has something to do, if there is one.
  void serve();
  // To be called every QUIET_MS: pollables that have had no turn for that long leave.
  void release_quiet();
  // Whether there are any pollables, for which it must be called.
  bool has_any() const { return table_.count() > 0; }
  unsigned spin_us() const { return spin_us_.load(std::memory_order_relaxed); }
  // The loop ends: all leave, and none comes any more.
  void close();

  // What the calling thread's turn is for.
  enum class Turn : uint8_t {
    none,  // this is no turn of a loop: the thread may wait
    input, // there is something to do
    leave, // the pollable is to go on with another thread
    last,  // the same, but if there is no other thread, it must end here
  };
  static Turn current_turn();

  static constexpr int QUIET_MS = 400;

  // ---- any thread

  // As in PollTable; nullptr also once the loop has ended.
  Registration *add(Pollable &pollable, const PolledFds &fds);
  // `impossible`: the loop has ended, and the caller has the pollable.
  PollTable::Wait wait(Registration &registration);
  // Begins to wait whatever has happened meanwhile, for a turn that is sure to come because the
  // caller wakes the pollable afterwards. False: the loop has ended, and the caller has the
  // pollable.
  bool wait_for_turn(Registration &registration);
  void remove(Registration &registration) { table_.remove(registration); }
  // How long the loop's thread looks again for something to do before it returns to the loop.
  void spin_for(unsigned us) { spin_us_.store(us, std::memory_order_relaxed); }

private:
  bool has_ended_for(Registration &registration);
  static void give_turn(Registration &registration, Turn turn);

  const base::Clock &clock_;
  const std::unique_ptr<Poller> poller_;
  PollTable table_;
  // 1 once the loop has ended. Pairs with the registrations' states: see wait.
  std::atomic<uint8_t> is_closed_{0};
  std::atomic<unsigned> spin_us_{0}; // set for the pollable that came last; pairs with nothing
};

} // namespace asyncnbd::schedule
