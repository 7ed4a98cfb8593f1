// Connections that wait for their clients, all in one epoll: so a few threads serve many of them,
// and a connection that is idle needs none.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "connection/headstart.hpp"

namespace asyncnbd::transport {
class Transport;
}

namespace asyncnbd::connection {

// What waits.
class Guest {
public:
  virtual ~Guest() = default;

  // What a turn has sent, and to whom.
  struct Served {
    std::weak_ptr<const ReplyReader> client;
    size_t reply_bytes = 0;
  };

  // Its client has sent something, or its transport's `wake` was called. The caller's thread is
  // the guest's until it waits again or takes its leave; then the guest may be gone.
  virtual Served resume() = 0;

  // It has waited for long: gives back what it keeps to be fast. Nobody else has it meanwhile.
  virtual void rest() = 0;
};

// There is one in a process. All functions: any thread, unless they say more.
class WaitingRoom {
public:
  // A guest's place. Never freed: an event that comes too late finds it empty, or somebody else's,
  // who then looks in vain.
  struct Seat;

  static WaitingRoom &instance();

  // Counts those who may come; the end of one returns how many are left.
  void connection_begins(unsigned spin_us);
  unsigned connection_ends();

  // Whether there are so many connections that those without a request should wait here.
  bool is_open() const { return is_open_.load(std::memory_order_relaxed); }

  // Before a guest waits for the first time. nullptr: it cannot wait here.
  Seat *enter(Guest &guest, transport::Transport &transport);

  // By who has the guest: from now on it waits, unless it was woken meanwhile and must look again,
  // or cannot wait here any more and is to leave.
  enum class Wait { begun, woken, impossible };
  Wait wait(Seat &seat);

  // By who has the guest: it will not wait here for a while, so its client is none of our business.
  void keep_away(Seat &seat);

  // By who has the guest, which does not come back.
  void leave(Seat &seat);

  // The calling thread has nothing else to do: it serves guests as long as the room is short of
  // threads.
  void lend_thread();

  // On the watcher's thread: whoever serves this guest will not be done soon, so another thread
  // takes over what it does for the room.
  void relieve(Seat &seat);

  // Of the calling thread: while it is busy with a guest, others wait for it.
  static bool delays_others();
  // It was so, but somebody else has taken its place since.
  static bool is_relieved();
  // It will wait, or be busy for long: others shall not wait with it. Nothing if they do not.
  static void before_delay();

private:
  class Worker;
  class Seats;
  class Vacancies;

  WaitingRoom();
  void work();
  Seat *next_ready(Worker &worker);
  bool let_some_rest(Worker &worker);
  Seat *let_some_rest(int64_t now, Worker &worker);
  void hire();

  // The distance keeps it from opening and closing with every client that comes and goes.
  static constexpr unsigned OPEN_FROM = 8;
  static constexpr unsigned CLOSED_BELOW = 4;

  std::mutex setting_up_; // by the first guest: a server of few clients needs no such descriptor
  std::atomic<int> epoll_fd_{-1};
  const unsigned max_workers_;
  std::atomic<unsigned> workers_{0};
  std::atomic<unsigned> connections_{0};
  std::atomic<bool> is_open_{false};
  std::atomic<unsigned> guests_{0};
  std::atomic<unsigned> spin_us_{0};
  std::atomic<int64_t> rest_from_ms_{0}; // on the steady clock
  std::mutex resting_;
  const std::unique_ptr<Seats> seats_;
  const std::unique_ptr<Vacancies> vacancies_;
};

} // namespace asyncnbd::connection
