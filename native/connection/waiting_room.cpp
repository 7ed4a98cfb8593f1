// See waiting_room.hpp.
#include "connection/waiting_room.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <sys/epoll.h>
#include <thread>
#include <unistd.h>

#include "connection/scheduler.hpp"
#include "connection/spinner.hpp"
#include "host/crew.hpp"
#include "transport/transport.hpp"

namespace asyncnbd::connection {

namespace {

using Clock = std::chrono::steady_clock;

// A turn that takes longer is of something that waits: other guests must not wait with it.
constexpr std::chrono::milliseconds LONG_TURN{2};
// From here on, even if it does not wait but computes.
constexpr std::chrono::milliseconds ENDLESS_TURN{20};
constexpr int REST_EVERY_MS = 1000;

enum class Presence : uint8_t {
  none,    // nobody's seat
  away,    // someone serves the guest
  called,  // so it is, and there is something new for it
  waiting, // whoever makes it `away` has it
};

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch())
      .count();
}

// Whether a thread of ours waits for something, rather than for a processor.
bool is_blocked(pid_t thread) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  FILE *file = fopen(path, "re");
  if (file == nullptr)
    return true;
  char line[256];
  const size_t length = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  line[length] = '\0';
  const char *state = strrchr(line, ')'); // the name before it may have any character
  return state == nullptr || strncmp(state, ") R", 3) != 0;
}

} // namespace

struct WaitingRoom::Seat {
  std::atomic<Presence> presence{Presence::none};
  Guest *guest = nullptr; // of whoever has the guest
  transport::Transport *transport = nullptr;
  std::atomic<Worker *> worker{nullptr}; // serves the guest
  std::atomic<uint32_t> turns{0};
  Seat *next_free = nullptr;
  // The sweeper's.
  uint32_t turns_seen = 0;
  bool rests = false;

  // The acquire pairs with the release of `try_wait`: the guest is as its last owner left it.
  bool claim() {
    Presence expected = Presence::waiting;
    return presence.compare_exchange_strong(expected, Presence::away, std::memory_order_acq_rel);
  }
  // There is something for the guest. True: the caller has it.
  bool call() {
    for (;;) {
      if (claim())
        return true;
      Presence expected = Presence::away;
      if (presence.compare_exchange_strong(expected, Presence::called))
        return false; // its owner will look again
      if (expected != Presence::waiting)
        return false;
    }
  }
  bool try_wait() {
    Presence expected = Presence::away;
    if (presence.compare_exchange_strong(expected, Presence::waiting, std::memory_order_acq_rel))
      return true;
    presence.store(Presence::away, std::memory_order_relaxed); // it was `called`
    return false;
  }
};

// Seats are reused, never freed.
class WaitingRoom::Seats {
public:
  Seat *take() {
    std::lock_guard lock(mutex_);
    Seat *seat = free_;
    if (seat != nullptr)
      free_ = seat->next_free;
    else
      seat = &all_.emplace_back();
    return seat;
  }

  void put(Seat &seat) {
    std::lock_guard lock(mutex_);
    seat.next_free = free_;
    free_ = &seat;
  }

  // The lock is not held while `visit` runs.
  template <typename Visit> void each(Visit visit) {
    for (size_t i = 0;; i++) {
      Seat *seat;
      {
        std::lock_guard lock(mutex_);
        if (i >= all_.size())
          return;
        seat = &all_[i];
      }
      visit(*seat);
    }
  }

private:
  std::mutex mutex_;
  std::deque<Seat> all_; // which never moves them
  Seat *free_ = nullptr;
};

// A thread that serves the room.
class WaitingRoom::Worker final : public Watched {
public:
  Worker(WaitingRoom &room)
      : spinner_(room.spin_us_.load(std::memory_order_relaxed)), room_(room), thread_(gettid()) {
    watch(this);
  }
  ~Worker() override { unwatch(this); }
  Worker(const Worker &) = delete;
  Worker &operator=(const Worker &) = delete;

  // False: the room has another worker instead.
  bool serve(Seat &seat) {
    has_restless_guests_ = true;
    turn_began_ms_.store(now_ms(), std::memory_order_relaxed);
    const uint64_t turn = turns_.begin_call();
    seat.worker.store(this, std::memory_order_release);
    seat.turns.fetch_add(1, std::memory_order_relaxed);
    Guest::Served served = seat.guest->resume();
    Worker *self = this; // perhaps no longer: the guest may be at another's already
    seat.worker.compare_exchange_strong(self, nullptr, std::memory_order_relaxed);
    if (!turns_.end_call(turn))
      return false;
    headstart_.sent(std::move(served.client), served.reply_bytes);
    return true;
  }

  template <typename IsReady> bool spin(IsReady is_ready) { return spinner_.spin(is_ready); }

  // Watched
  uint64_t current_call() const override { return turns_.current_call(); }
  void on_stuck(uint64_t) override {
    const std::chrono::milliseconds lasts{now_ms() -
                                          turn_began_ms_.load(std::memory_order_relaxed)};
    if (lasts >= LONG_TURN && (lasts >= ENDLESS_TURN || is_blocked(thread_)))
      relieve();
  }

  void relieve() {
    const uint64_t turn = turns_.current_call();
    if (turn != 0 && turns_.take(turn))
      room_.hire();
  }

  int64_t turn_began_ms() const { return turn_began_ms_.load(std::memory_order_relaxed); }

  // Whether some may have to rest, a while from now.
  bool has_restless_guests() const { return has_restless_guests_; }
  void set_has_restless_guests(bool has) { has_restless_guests_ = has; }

private:
  Baton turns_;
  std::atomic<int64_t> turn_began_ms_{0};
  Spinner spinner_;
  Headstart headstart_;
  WaitingRoom &room_;
  const pid_t thread_;
  bool has_restless_guests_ = true;
};

// Never destroyed: its threads outlive main's statics.
WaitingRoom &WaitingRoom::instance() {
  static WaitingRoom *room = new WaitingRoom;
  return *room;
}

WaitingRoom::WaitingRoom()
    : epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      max_workers_(std::max(1u, std::thread::hardware_concurrency())),
      seats_(std::make_unique<Seats>()) {}

void WaitingRoom::connection_begins(unsigned spin_us) {
  connections_.fetch_add(1, std::memory_order_relaxed);
  spin_us_.store(spin_us, std::memory_order_relaxed);
}

WaitingRoom::Seat *WaitingRoom::enter(Guest &guest, transport::Transport &transport) {
  if (epoll_fd_ == -1)
    return nullptr;
  Seat *seat = seats_->take();
  seat->guest = &guest;
  seat->transport = &transport;
  seat->presence.store(Presence::away, std::memory_order_release);
  guests_.fetch_add(1);
  if (transport.join(epoll_fd_, seat))
    return seat;
  leave(*seat);
  return nullptr;
}

bool WaitingRoom::wait(Seat &seat) {
  // Before the guest may be claimed: once it is, it may leave, and its descriptor be another's.
  if (!seat.transport->rearm(epoll_fd_, &seat)) {
    seat.presence.store(Presence::away, std::memory_order_relaxed);
    return false;
  }
  return seat.try_wait();
}

void WaitingRoom::leave(Seat &seat) {
  seat.transport->leave(epoll_fd_);
  seat.guest = nullptr;
  seat.transport = nullptr;
  seat.presence.store(Presence::none);
  guests_.fetch_sub(1);
  seats_->put(seat);
}

void WaitingRoom::relieve(Seat &seat) {
  // The watcher runs: a worker that is seen here cannot end before it has been unwatched.
  if (Worker *worker = seat.worker.load(std::memory_order_acquire))
    worker->relieve();
}

// A thread instead of one that has lost its part. If there is none, whoever comes next helps.
void WaitingRoom::hire() {
  const bool is_hired = host::run_on_crew([this] {
    work();
    lend_thread();
  });
  if (!is_hired)
    workers_.fetch_sub(1);
}

// Sequentially consistent, as `enter` and the end of `work`: if a guest comes while the last
// worker goes, one of the two sees the other.
void WaitingRoom::lend_thread() {
  unsigned workers = workers_.load();
  while (workers < max_workers_ && guests_.load() > 0) {
    if (!workers_.compare_exchange_weak(workers, workers + 1))
      continue;
    work();
    workers = workers_.load();
  }
}

// With a part among the workers.
void WaitingRoom::work() {
  Worker worker(*this);
  bool is_ours = true;
  while (is_ours) {
    Seat *seat = next_ready(worker);
    if (seat == nullptr && guests_.load() == 0) {
      workers_.fetch_sub(1);
      return;
    }
    if (seat != nullptr && seat->call())
      is_ours = worker.serve(*seat);
    if (is_ours && (seat == nullptr || worker.turn_began_ms() >= rest_from_ms_.load()))
      is_ours = let_rest(worker);
  }
}

// nullptr when nobody has come for long.
WaitingRoom::Seat *WaitingRoom::next_ready(Worker &worker) {
  epoll_event event{};
  // One at a time: what this thread has taken would have to wait for it.
  auto look = [&](int timeout_ms) { return epoll_wait(epoll_fd_, &event, 1, timeout_ms); };
  int ready = look(0);
  if (ready == 0)
    worker.spin([&] {
      ready = look(0);
      return ready != 0;
    });
  if (ready == 0)
    ready = look(worker.has_restless_guests() ? REST_EVERY_MS : -1);
  return ready == 1 ? static_cast<Seat *>(event.data.ptr) : nullptr;
}

// False if this thread is a worker no more.
bool WaitingRoom::let_rest(Worker &worker) {
  std::unique_lock lock(resting_, std::try_to_lock);
  if (!lock.owns_lock())
    return true;
  rest_from_ms_.store(now_ms() + REST_EVERY_MS);
  bool is_ours = true;
  bool has_restless = false;
  seats_->each([&](Seat &seat) {
    const uint32_t turns = seat.turns.load(std::memory_order_relaxed);
    if (turns != seat.turns_seen) {
      seat.turns_seen = turns;
      seat.rests = false;
      has_restless = true;
    } else if (is_ours && !seat.rests && seat.claim()) {
      seat.guest->rest();
      seat.rests = true;
      is_ours = wait(seat) || worker.serve(seat);
    }
  });
  worker.set_has_restless_guests(has_restless);
  return is_ours;
}

} // namespace asyncnbd::connection
