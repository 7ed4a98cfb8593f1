// See waiting_room.hpp.
#include "connection/waiting_room.hpp"

#include <algorithm>
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
// A guest that waits for so long may rest, and so often it is looked for them.
constexpr int REST_EVERY_MS = 1000;
// To let one rest takes some microseconds; meanwhile this thread serves nobody.
constexpr unsigned MAX_RESTING_AT_ONCE = 64;

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
  bool is_muted = false; // of whoever has the guest, too
  // Its client has closed its end. That may have been told of together with the last request, and
  // who receives that does not see the end behind it.
  std::atomic<bool> has_ended{false};
  std::atomic<Worker *> worker{nullptr}; // serves the guest
  std::atomic<int64_t> last_turn_ms{0};
  Seat *next_free = nullptr;
  int64_t rests_since_turn_ms = 0; // whoever lets guests rest: its last turn then

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
  explicit Worker(WaitingRoom &room)
      : spinner_(room.spin_us_.load(std::memory_order_relaxed)), room_(room), thread_(gettid()) {
    of_this_thread = this;
    watch(this, turns_.word());
  }
  ~Worker() override {
    unwatch(this);
    of_this_thread = nullptr;
  }
  Worker(const Worker &) = delete;
  Worker &operator=(const Worker &) = delete;

  // False: the room has another worker instead.
  bool serve(Seat &seat) {
    has_restless_guests_ = true;
    const int64_t now = now_ms();
    turn_began_ms_.store(now, std::memory_order_relaxed);
    seat.last_turn_ms.store(now, std::memory_order_relaxed);
    const uint64_t turn = turns_.begin_call();
    seat.worker.store(this, std::memory_order_release);
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
  void on_stuck(uint64_t) override {
    const std::chrono::milliseconds lasts{now_ms() -
                                          turn_began_ms_.load(std::memory_order_relaxed)};
    if (lasts >= LONG_TURN && (lasts >= ENDLESS_TURN || is_blocked(thread_)))
      relieve();
  }

  bool has_turn() const { return turns_.current_call() != 0; }

  // Any thread on which this worker cannot end meanwhile.
  void relieve() {
    const uint64_t turn = turns_.current_call();
    if (turn != 0 && turns_.take(turn))
      room_.hire();
  }

  int64_t turn_began_ms() const { return turn_began_ms_.load(std::memory_order_relaxed); }

  // Whether some may have to rest, a while from now.
  bool has_restless_guests() const { return has_restless_guests_; }
  void set_has_restless_guests(bool has) { has_restless_guests_ = has; }

  static thread_local Worker *of_this_thread;

private:
  Baton turns_;
  std::atomic<int64_t> turn_began_ms_{0};
  Spinner spinner_;
  Headstart headstart_;
  WaitingRoom &room_;
  const pid_t thread_;
  bool has_restless_guests_ = true;
};

thread_local WaitingRoom::Worker *WaitingRoom::Worker::of_this_thread = nullptr;

// Workers that could not be replaced, since the system had no thread: the watcher tries again.
class WaitingRoom::Vacancies final : public Watched {
public:
  explicit Vacancies(WaitingRoom &room) : room_(room) { watch(this, word_); }

  void add() { change_by(1); }
  bool take() { return change_by(-1); }

  // Watched
  void on_stuck(uint64_t) override {
    if (take())
      room_.hire();
  }

private:
  // To the watcher it is a call as long as there are any. False: there is none to take.
  bool change_by(int change) {
    uint64_t word = word_.load();
    for (;;) {
      if (word == 0 && change < 0)
        return false;
      const uint64_t count = (word >> 1) + static_cast<uint64_t>(change);
      if (word_.compare_exchange_weak(word, count > 0 ? count << 1 | 1 : 0))
        return true;
    }
  }

  WaitingRoom &room_;
  CallWord word_{0}; // twice their number, plus one if that is not 0
};

// Never destroyed: its threads outlive main's statics.
WaitingRoom &WaitingRoom::instance() {
  static WaitingRoom *room = new WaitingRoom;
  return *room;
}

WaitingRoom::WaitingRoom()
    : max_workers_(std::max(1u, std::thread::hardware_concurrency())),
      seats_(std::make_unique<Seats>()), vacancies_(std::make_unique<Vacancies>(*this)) {}

void WaitingRoom::connection_begins(unsigned spin_us) {
  spin_us_.store(spin_us, std::memory_order_relaxed);
  if (connections_.fetch_add(1, std::memory_order_relaxed) + 1 >= OPEN_FROM)
    is_open_.store(true, std::memory_order_relaxed);
}

unsigned WaitingRoom::connection_ends() {
  const unsigned left = connections_.fetch_sub(1, std::memory_order_relaxed) - 1;
  if (left < CLOSED_BELOW)
    is_open_.store(false, std::memory_order_relaxed);
  return left;
}

bool WaitingRoom::delays_others() {
  return Worker::of_this_thread != nullptr && Worker::of_this_thread->has_turn();
}

bool WaitingRoom::is_relieved() {
  return Worker::of_this_thread != nullptr && !Worker::of_this_thread->has_turn();
}

void WaitingRoom::before_delay() {
  if (Worker::of_this_thread != nullptr)
    Worker::of_this_thread->relieve();
}

WaitingRoom::Seat *WaitingRoom::enter(Guest &guest, transport::Transport &transport) {
  if (epoll_fd_ == -1) {
    std::lock_guard lock(setting_up_);
    if (epoll_fd_ == -1) // or another try: there may have been no descriptor
      epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd_ == -1)
      return nullptr;
  }
  Seat *seat = seats_->take();
  seat->guest = &guest;
  seat->transport = &transport;
  seat->is_muted = false;
  seat->has_ended.store(false, std::memory_order_relaxed);
  seat->last_turn_ms.store(now_ms(), std::memory_order_relaxed);
  seat->presence.store(Presence::away, std::memory_order_release);
  guests_.fetch_add(1);
  if (transport.join(epoll_fd_, seat))
    return seat;
  leave(*seat);
  return nullptr;
}

WaitingRoom::Wait WaitingRoom::wait(Seat &seat) {
  // Before the guest may be claimed: once it is, it may leave, and its descriptor be another's.
  if (seat.is_muted && !seat.transport->unmute(epoll_fd_, &seat))
    return Wait::impossible;
  seat.is_muted = false;
  // Once: an event for the seat's last guest must not keep this one from waiting for ever.
  if (seat.has_ended.exchange(false))
    return Wait::woken;
  return seat.try_wait() ? Wait::begun : Wait::woken;
}

void WaitingRoom::keep_away(Seat &seat) {
  if (!seat.is_muted)
    seat.is_muted = seat.transport->mute(epoll_fd_, &seat);
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

// A thread instead of one that has lost its part.
void WaitingRoom::hire() {
  const bool is_hired = host::run_on_crew([this] {
    work();
    lend_thread();
  });
  if (!is_hired)
    vacancies_->add();
}

// Sequentially consistent, as `enter` and the end of `work`: if a guest comes while the last
// worker goes, one of the two sees the other.
void WaitingRoom::lend_thread() {
  while (vacancies_->take())
    work();
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
      is_ours = let_some_rest(worker);
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
  if (ready != 1)
    return nullptr;
  auto *seat = static_cast<Seat *>(event.data.ptr);
  if ((event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
    seat->has_ended.store(true);
  return seat;
}

// False if this thread is a worker no more.
bool WaitingRoom::let_some_rest(Worker &worker) {
  Seat *woken = nullptr;
  {
    std::unique_lock lock(resting_, std::try_to_lock);
    if (!lock.owns_lock())
      return true;
    woken = let_some_rest(now_ms(), worker);
  }
  return woken == nullptr || worker.serve(*woken);
}

// With `resting_` held. Returns a guest that has something to do instead, which the caller has.
WaitingRoom::Seat *WaitingRoom::let_some_rest(int64_t now, Worker &worker) {
  Seat *woken = nullptr;
  bool has_restless = false;
  unsigned count = 0;
  seats_->each([&](Seat &seat) {
    const int64_t last_turn_ms = seat.last_turn_ms.load(std::memory_order_relaxed);
    if (seat.rests_since_turn_ms == last_turn_ms)
      return;
    if (now - last_turn_ms < REST_EVERY_MS || woken != nullptr || count == MAX_RESTING_AT_ONCE) {
      has_restless = true;
      return;
    }
    if (!seat.claim())
      return;
    count++;
    seat.guest->rest();
    seat.rests_since_turn_ms = last_turn_ms;
    // So that it is told of what is there already, should it have overlooked something: a receive
    // ends early at descriptors that are passed, and at urgent data.
    seat.is_muted = true;
    if (wait(seat) != Wait::begun)
      woken = &seat;
  });
  worker.set_has_restless_guests(has_restless);
  // Those that are left come soon, but others that have something to do come between.
  rest_from_ms_.store(now + (count == MAX_RESTING_AT_ONCE ? 1 : REST_EVERY_MS));
  return woken;
}

} // namespace asyncnbd::connection
