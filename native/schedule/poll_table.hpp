// Pollables that wait for events of one poller, and which thread has each of them meanwhile.
#pragma once

#include <atomic>

#include "base/clock.hpp"
#include "schedule/poller.hpp"
#include "schedule/registrations.hpp"

namespace asyncnbd::schedule {

// All functions: any thread, unless their comments say otherwise.
class PollTable {
public:
  PollTable(const base::Clock &clock, Poller &poller) : clock_(clock), poller_(poller) {}
  PollTable(const PollTable &) = delete;
  PollTable &operator=(const PollTable &) = delete;

  // Before a pollable waits for the first time; the caller has it. nullptr: it cannot wait here.
  Registration *add(Pollable &pollable, const PolledFds &fds);

  // By the thread that has the pollable. `begun`: it waits, and no longer belongs to the caller.
  // `woken`: it must look again first. `impossible`: it cannot wait here any more, and is to be
  // removed.
  enum class Wait { begun, woken, impossible };
  Wait wait(Registration &registration);

  // By the thread that has the pollable: until it waits again, its input causes no events.
  void suspend_input(Registration &registration);

  // By the thread that has the pollable, which does not wait here any more.
  void remove(Registration &registration);

  // The pollable of the next event; its `notify` tells whether the caller is to serve it. nullptr
  // if there has been no event for that long; timeout_ms < 0 waits for ever.
  Registration *next(int timeout_ms);

  // How many pollables there are. Sequentially consistent, as is `add`.
  unsigned count() const { return count_.load(); }
  template <typename Visit> void each(Visit visit) { registrations_.each(visit); }

private:
  const base::Clock &clock_;
  Poller &poller_;
  std::atomic<unsigned> count_{0}; // pairs with IdlePoller::workers_
  Registrations registrations_;
};

} // namespace asyncnbd::schedule
