// Connections that wait for their clients, all in one epoll: so a few threads serve many of them,
// and a connection that is idle needs none.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "connection/send_ahead_limit.hpp"

namespace asyncnbd::transport {
class Transport;
}

namespace asyncnbd::connection {

// What waits.
class Pollable {
public:
  virtual ~Pollable() = default;

  // What a turn has sent, and to whom.
  struct Served {
    std::weak_ptr<const Receiver> client;
    size_t reply_bytes = 0;
  };

  // Its client has sent something, or its transport's `wake` was called. The caller's thread is
  // the pollable's until it waits again or takes its leave; then the pollable may be gone.
  virtual Served resume() = 0;

  // It has waited for long: gives back what it keeps to be fast. Nobody else has it meanwhile.
  virtual void rest() = 0;
};

// There is one in a process. All functions: any thread, unless they say more.
class IdlePoller {
public:
  // A pollable's place. Never freed: an event that comes too late finds it empty, or somebody
  // else's, who then looks in vain.
  struct Registration;

  static IdlePoller &instance();

  // Counts those who may come; the end of one returns how many are left.
  void connection_begins(unsigned spin_us);
  unsigned connection_ends();

  // Whether there are so many connections that those without a request should wait here.
  bool is_open() const { return is_open_.load(std::memory_order_relaxed); }

  // Before a pollable waits for the first time. nullptr: it cannot wait here.
  Registration *enter(Pollable &pollable, transport::Transport &transport);

  // By who has the pollable: from now on it waits, unless it was woken meanwhile and must look
  // again, or cannot wait here any more and is to leave.
  enum class Wait { begun, woken, impossible };
  Wait wait(Registration &registration);

  // By who has the pollable: it will not wait here for a while, so its client is none of our
  // business.
  void suspend_input(Registration &registration);

  // By who has the pollable, which does not come back.
  void leave(Registration &registration);

  // The calling thread has nothing else to do: it serves pollables as long as the room is short of
  // threads.
  void offer_thread();

  // On the detector's thread: whoever serves this pollable will not be done soon, so another thread
  // takes over what it does for the room.
  void replace_worker(Registration &registration);

  // Of the calling thread: while it is busy with a pollable, others wait for it.
  static bool delays_others();
  // It was so, but somebody else has taken its place since.
  static bool is_replaced();
  // It will wait, or be busy for long: others shall not wait with it. Nothing if they do not.
  static void before_delay();

private:
  class Worker;
  class Registrations;
  class UnfilledWorkers;

  IdlePoller();
  void work();
  Registration *next_ready(Worker &worker);
  bool release_idle(Worker &worker);
  Registration *release_idle(int64_t now, Worker &worker);
  void start_worker();

  // The distance keeps it from opening and closing with every client that comes and goes.
  static constexpr unsigned OPEN_FROM = 8;
  static constexpr unsigned CLOSED_BELOW = 4;

  std::mutex setting_up_; // by the first pollable: a server of few clients needs no such descriptor
  std::atomic<int> epoll_fd_{-1};
  const unsigned max_workers_;
  std::atomic<unsigned> workers_{0};
  std::atomic<unsigned> connections_{0};
  std::atomic<bool> is_open_{false};
  std::atomic<unsigned> pollables_{0};
  std::atomic<unsigned> spin_us_{0};
  std::atomic<int64_t> release_from_ms_{0}; // on the steady clock
  std::mutex releasing_;
  const std::unique_ptr<Registrations> registrations_;
  const std::unique_ptr<UnfilledWorkers> unfilled_workers_;
};

} // namespace asyncnbd::connection
