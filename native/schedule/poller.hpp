// Reports which of many clients has sent something: epoll, or a simulation.
#pragma once

#include <atomic>
#include <optional>

#include "base/mutex.hpp"

namespace asyncnbd::schedule {

// The descriptors of a client that is waited for; not owned.
struct PolledFds {
  int input = -1;
  int wake = -1; // an eventfd: each write to it is an event
};

// All functions: any thread, unless their comments say otherwise.
class Poller {
public:
  struct Event {
    void *whose;
    bool has_ended; // its peer will send no more
  };

  virtual ~Poller() = default;

  // Before anything else, once or more. False: the system has no descriptor for it.
  virtual bool open() = 0;

  // From now on there is one event for input that is there already, and one each time that more
  // arrives, for the stream's end and for each wake. False: the system refuses.
  virtual bool add(const PolledFds &fds, void *whose) = 0;
  // From now on there are events for wakes only, and perhaps one more for something else.
  virtual bool suspend_input(const PolledFds &fds, void *whose) = 0;
  // From now on there are events as after `add`.
  virtual bool resume_input(const PolledFds &fds, void *whose) = 0;
  virtual void remove(const PolledFds &fds) = 0;

  // The next event; nullopt if there is none within that time. timeout_ms < 0 waits for ever.
  virtual std::optional<Event> wait(int timeout_ms) = 0;
};

class EpollPoller final : public Poller {
public:
  EpollPoller() = default;
  ~EpollPoller() override;
  EpollPoller(const EpollPoller &) = delete;
  EpollPoller &operator=(const EpollPoller &) = delete;

  bool open() override;
  // Readable as long as there are events; once it is open.
  int fd() const { return epoll_fd_.load(); }
  bool add(const PolledFds &fds, void *whose) override;
  bool suspend_input(const PolledFds &fds, void *whose) override;
  bool resume_input(const PolledFds &fds, void *whose) override;
  void remove(const PolledFds &fds) override;
  std::optional<Event> wait(int timeout_ms) override;

private:
  bool modify(const PolledFds &fds, void *whose, unsigned events);

  base::Mutex<base::LockRank::poller_opening> opening_;
  // Set once; a thread that sees -1 opens it under the mutex. Pairs with nothing.
  std::atomic<int> epoll_fd_{-1};
};

} // namespace asyncnbd::schedule
