// What an idle poller knows of each pollable: whether it waits, and which thread has it.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

#include "base/mutex.hpp"
#include "schedule/poller.hpp"

namespace asyncnbd::schedule {

class Pollable;
class PollWorker;

// Never freed, but reused: an event that comes too late finds it unused, or makes its next pollable
// look for input in vain.
struct Registration {
  enum class State : uint8_t {
    unused,
    busy,     // a thread has the pollable
    notified, // busy, and there is something new for the pollable
    waiting,  // no thread has it; the one that makes it busy does
  };

  std::atomic<State> state{State::unused}; // see the functions
  // These are for the thread that has the pollable.
  Pollable *pollable = nullptr;
  PolledFds fds;
  bool input_is_suspended = false;
  // The client has closed its end. The event may have been the one of its last request, and a
  // thread that receives the request does not see the end behind it. Pairs with nothing: the event
  // comes first.
  std::atomic<bool> has_ended{false};
  // The one that serves the pollable. Release in PollWorker::serve, acquire in
  // IdlePoller::replace_worker.
  std::atomic<PollWorker *> worker{nullptr};
  std::atomic<int64_t> last_turn_ms{0}; // an estimate, pairs with nothing
  int64_t released_since_turn_ms = 0;   // whoever releases idle memory: the last turn then
  Registration *next_free = nullptr;

  // True: the pollable waited, and the caller has it now. The acquire pairs with the release of
  // try_wait: the pollable is as its last thread left it.
  bool claim();
  // There is something for the pollable. True: the caller has it now. False: the thread that has it
  // will look, since its try_wait fails, whose acquire pairs with the release here.
  bool notify();
  // By the thread that has it. False: it was notified, and the caller still has it.
  bool try_wait();
};

// All registrations of an idle poller. Any thread.
class Registrations {
public:
  Registration &take();
  void put(Registration &registration);

  // The lock is not held while `visit` runs.
  template <typename Visit> void each(Visit visit) {
    for (size_t i = 0; Registration *registration = at(i); i++)
      visit(*registration);
  }

private:
  Registration *at(size_t index);

  base::Mutex<base::LockRank::registrations> mutex_; // guards the rest
  std::deque<Registration> all_;                     // which never moves them
  Registration *free_ = nullptr;
};

} // namespace asyncnbd::schedule
