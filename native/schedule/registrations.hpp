// The places of those that are registered with an idle poller, and who has each at the moment.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

#include "base/mutex.hpp"
#include "schedule/poller.hpp"

namespace asyncnbd::schedule {

class Pollable;
class PollWorker;

// Never freed, but reused: an event that comes too late finds it unused, or somebody else's, who
// then looks in vain.
struct Registration {
  enum class State : uint8_t {
    unused,
    busy,     // some thread has the pollable
    notified, // so it is, and there is something new for it
    waiting,  // whoever makes it busy has the pollable
  };

  std::atomic<State> state{State::unused}; // see the functions
  // Of whoever has the pollable.
  Pollable *pollable = nullptr;
  PolledFds fds;
  bool input_is_suspended = false;
  // Its client has closed its end. That may have been reported together with the last request, and
  // who receives that does not see the end behind it. Pairs with nothing: the event comes first.
  std::atomic<bool> has_ended{false};
  // Serves the pollable. Release in PollWorker::serve, acquire in IdlePoller::replace_worker.
  std::atomic<PollWorker *> worker{nullptr};
  std::atomic<int64_t> last_turn_ms{0}; // an estimate, pairs with nothing
  int64_t released_since_turn_ms = 0;   // whoever releases idle memory: the last turn then
  Registration *next_free = nullptr;

  // For the caller, if nobody has it. The acquire pairs with the release of try_wait: the pollable
  // is as its last owner left it.
  bool claim();
  // There is something for the pollable. True: the caller has it now; else who has it will look,
  // when its try_wait fails, whose acquire pairs with the release here.
  bool notify();
  // By who has it. False: it was notified, and the caller still has it.
  bool try_wait();
};

// All there are. Any thread.
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
