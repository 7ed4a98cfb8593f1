// See idle_poller.hpp.
#include "connection/idle_poller.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <sys/epoll.h>
#include <thread>
#include <unistd.h>

#include "connection/slow_call_detector.hpp"
#include "connection/spinner.hpp"
#include "host/thread_pool.hpp"
#include "transport/transport.hpp"

namespace asyncnbd::connection {

namespace {

using Clock = std::chrono::steady_clock;

// A turn that takes longer is of something that waits: other pollables must not wait with it.
constexpr std::chrono::milliseconds LONG_TURN{2};
// From here on, even if it does not wait but computes.
constexpr std::chrono::milliseconds ENDLESS_TURN{20};
// A pollable that waits for so long may rest, and so often it is looked for them.
constexpr int RELEASE_EVERY_MS = 1000;
// To let one rest takes some microseconds; meanwhile this thread serves nobody.
constexpr unsigned MAX_RELEASES_AT_ONCE = 64;

enum class Presence : uint8_t {
  none,    // nobody's registration
  away,    // someone serves the pollable
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

struct IdlePoller::Registration {
  std::atomic<Presence> presence{Presence::none};
  Pollable *pollable = nullptr; // of whoever has the pollable
  transport::Transport *transport = nullptr;
  bool input_is_suspended = false; // of whoever has the pollable, too
  // Its client has closed its end. That may have been told of together with the last request, and
  // who receives that does not see the end behind it.
  std::atomic<bool> has_ended{false};
  std::atomic<Worker *> worker{nullptr}; // serves the pollable
  std::atomic<int64_t> last_turn_ms{0};
  Registration *next_free = nullptr;
  int64_t released_since_turn_ms = 0; // whoever lets pollables rest: its last turn then

  // The acquire pairs with the release of `try_wait`: the pollable is as its last owner left it.
  bool claim() {
    Presence expected = Presence::waiting;
    return presence.compare_exchange_strong(expected, Presence::away, std::memory_order_acq_rel);
  }
  // There is something for the pollable. True: the caller has it.
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

// Registrations are reused, never freed.
class IdlePoller::Registrations {
public:
  Registration *take() {
    std::lock_guard lock(mutex_);
    Registration *registration = free_;
    if (registration != nullptr)
      free_ = registration->next_free;
    else
      registration = &all_.emplace_back();
    return registration;
  }

  void put(Registration &registration) {
    std::lock_guard lock(mutex_);
    registration.next_free = free_;
    free_ = &registration;
  }

  // The lock is not held while `visit` runs.
  template <typename Visit> void each(Visit visit) {
    for (size_t i = 0;; i++) {
      Registration *registration;
      {
        std::lock_guard lock(mutex_);
        if (i >= all_.size())
          return;
        registration = &all_[i];
      }
      visit(*registration);
    }
  }

private:
  std::mutex mutex_;
  std::deque<Registration> all_; // which never moves them
  Registration *free_ = nullptr;
};

// A thread that serves the room.
class IdlePoller::Worker final : public SlowCallListener {
public:
  explicit Worker(IdlePoller &room)
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
  bool serve(Registration &registration) {
    has_active_pollables_ = true;
    const int64_t now = now_ms();
    turn_began_ms_.store(now, std::memory_order_relaxed);
    registration.last_turn_ms.store(now, std::memory_order_relaxed);
    const uint64_t turn = turns_.begin_call();
    registration.worker.store(this, std::memory_order_release);
    Pollable::Served served = registration.pollable->resume();
    Worker *self = this; // perhaps no longer: the pollable may be at another's already
    registration.worker.compare_exchange_strong(self, nullptr, std::memory_order_relaxed);
    if (!turns_.end_call(turn))
      return false;
    send_ahead_limit_.sent(std::move(served.client), served.reply_bytes);
    return true;
  }

  template <typename IsReady> bool spin(IsReady is_ready) { return spinner_.spin(is_ready); }

  // SlowCallListener
  void on_slow_call(uint64_t) override {
    const std::chrono::milliseconds lasts{now_ms() -
                                          turn_began_ms_.load(std::memory_order_relaxed)};
    if (lasts >= LONG_TURN && (lasts >= ENDLESS_TURN || is_blocked(thread_)))
      replace_worker();
  }

  bool has_turn() const { return turns_.current_call() != 0; }

  // Any thread on which this worker cannot end meanwhile.
  void replace_worker() {
    const uint64_t turn = turns_.current_call();
    if (turn != 0 && turns_.take(turn))
      room_.start_worker();
  }

  int64_t turn_began_ms() const { return turn_began_ms_.load(std::memory_order_relaxed); }

  // Whether some may have to rest, a while from now.
  bool has_active_pollables() const { return has_active_pollables_; }
  void set_has_active_pollables(bool has) { has_active_pollables_ = has; }

  static thread_local Worker *of_this_thread;

private:
  LeaderToken turns_;
  std::atomic<int64_t> turn_began_ms_{0};
  Spinner spinner_;
  SendAheadLimit send_ahead_limit_;
  IdlePoller &room_;
  const pid_t thread_;
  bool has_active_pollables_ = true;
};

thread_local IdlePoller::Worker *IdlePoller::Worker::of_this_thread = nullptr;

// Workers that could not be replaced, since the system had no thread: the detector tries again.
class IdlePoller::UnfilledWorkers final : public SlowCallListener {
public:
  explicit UnfilledWorkers(IdlePoller &room) : room_(room) { watch(this, word_); }

  void add() { change_by(1); }
  bool take() { return change_by(-1); }

  // SlowCallListener
  void on_slow_call(uint64_t) override {
    if (take())
      room_.start_worker();
  }

private:
  // To the detector it is a call as long as there are any. False: there is none to take.
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

  IdlePoller &room_;
  CallWord word_{0}; // twice their number, plus one if that is not 0
};

// Never destroyed: its threads outlive main's statics.
IdlePoller &IdlePoller::instance() {
  static IdlePoller *room = new IdlePoller;
  return *room;
}

IdlePoller::IdlePoller()
    : max_workers_(std::max(1u, std::thread::hardware_concurrency())),
      registrations_(std::make_unique<Registrations>()),
      unfilled_workers_(std::make_unique<UnfilledWorkers>(*this)) {}

void IdlePoller::connection_begins(unsigned spin_us) {
  spin_us_.store(spin_us, std::memory_order_relaxed);
  if (connections_.fetch_add(1, std::memory_order_relaxed) + 1 >= OPEN_FROM)
    is_open_.store(true, std::memory_order_relaxed);
}

unsigned IdlePoller::connection_ends() {
  const unsigned left = connections_.fetch_sub(1, std::memory_order_relaxed) - 1;
  if (left < CLOSED_BELOW)
    is_open_.store(false, std::memory_order_relaxed);
  return left;
}

bool IdlePoller::delays_others() {
  return Worker::of_this_thread != nullptr && Worker::of_this_thread->has_turn();
}

bool IdlePoller::is_replaced() {
  return Worker::of_this_thread != nullptr && !Worker::of_this_thread->has_turn();
}

void IdlePoller::before_delay() {
  if (Worker::of_this_thread != nullptr)
    Worker::of_this_thread->replace_worker();
}

IdlePoller::Registration *IdlePoller::enter(Pollable &pollable, transport::Transport &transport) {
  if (epoll_fd_ == -1) {
    std::lock_guard lock(setting_up_);
    if (epoll_fd_ == -1) // or another try: there may have been no descriptor
      epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd_ == -1)
      return nullptr;
  }
  Registration *registration = registrations_->take();
  registration->pollable = &pollable;
  registration->transport = &transport;
  registration->input_is_suspended = false;
  registration->has_ended.store(false, std::memory_order_relaxed);
  registration->last_turn_ms.store(now_ms(), std::memory_order_relaxed);
  registration->presence.store(Presence::away, std::memory_order_release);
  pollables_.fetch_add(1);
  if (transport.join(epoll_fd_, registration))
    return registration;
  leave(*registration);
  return nullptr;
}

IdlePoller::Wait IdlePoller::wait(Registration &registration) {
  // Before the pollable may be claimed: once it is, it may leave, and its descriptor be another's.
  if (registration.input_is_suspended &&
      !registration.transport->resume_input(epoll_fd_, &registration))
    return Wait::impossible;
  registration.input_is_suspended = false;
  // Once: an event for the registration's last pollable must not keep this one from waiting for
  // ever.
  if (registration.has_ended.exchange(false))
    return Wait::woken;
  return registration.try_wait() ? Wait::begun : Wait::woken;
}

void IdlePoller::suspend_input(Registration &registration) {
  if (!registration.input_is_suspended)
    registration.input_is_suspended =
        registration.transport->suspend_input(epoll_fd_, &registration);
}

void IdlePoller::leave(Registration &registration) {
  registration.transport->leave(epoll_fd_);
  registration.pollable = nullptr;
  registration.transport = nullptr;
  registration.presence.store(Presence::none);
  pollables_.fetch_sub(1);
  registrations_->put(registration);
}

void IdlePoller::replace_worker(Registration &registration) {
  // The detector runs: a worker that is seen here cannot end before it has been unwatched.
  if (Worker *worker = registration.worker.load(std::memory_order_acquire))
    worker->replace_worker();
}

// A thread instead of one that has lost its part.
void IdlePoller::start_worker() {
  const bool is_started = host::run_on_pool([this] {
    work();
    offer_thread();
  });
  if (!is_started)
    unfilled_workers_->add();
}

// Sequentially consistent, as `enter` and the end of `work`: if a pollable comes while the last
// worker goes, one of the two sees the other.
void IdlePoller::offer_thread() {
  while (unfilled_workers_->take())
    work();
  unsigned workers = workers_.load();
  while (workers < max_workers_ && pollables_.load() > 0) {
    if (!workers_.compare_exchange_weak(workers, workers + 1))
      continue;
    work();
    workers = workers_.load();
  }
}

// With a part among the workers.
void IdlePoller::work() {
  Worker worker(*this);
  bool is_ours = true;
  while (is_ours) {
    Registration *registration = next_ready(worker);
    if (registration == nullptr && pollables_.load() == 0) {
      workers_.fetch_sub(1);
      return;
    }
    if (registration != nullptr && registration->call())
      is_ours = worker.serve(*registration);
    if (is_ours && (registration == nullptr || worker.turn_began_ms() >= release_from_ms_.load()))
      is_ours = release_idle(worker);
  }
}

// nullptr when nobody has come for long.
IdlePoller::Registration *IdlePoller::next_ready(Worker &worker) {
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
    ready = look(worker.has_active_pollables() ? RELEASE_EVERY_MS : -1);
  if (ready != 1)
    return nullptr;
  auto *registration = static_cast<Registration *>(event.data.ptr);
  if ((event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
    registration->has_ended.store(true);
  return registration;
}

// False if this thread is a worker no more.
bool IdlePoller::release_idle(Worker &worker) {
  Registration *woken = nullptr;
  {
    std::unique_lock lock(releasing_, std::try_to_lock);
    if (!lock.owns_lock())
      return true;
    woken = release_idle(now_ms(), worker);
  }
  return woken == nullptr || worker.serve(*woken);
}

// With `releasing_` held. Returns a pollable that has something to do instead, which the caller
// has.
IdlePoller::Registration *IdlePoller::release_idle(int64_t now, Worker &worker) {
  Registration *woken = nullptr;
  bool has_active = false;
  unsigned count = 0;
  registrations_->each([&](Registration &registration) {
    const int64_t last_turn_ms = registration.last_turn_ms.load(std::memory_order_relaxed);
    if (registration.released_since_turn_ms == last_turn_ms)
      return;
    if (now - last_turn_ms < RELEASE_EVERY_MS || woken != nullptr ||
        count == MAX_RELEASES_AT_ONCE) {
      has_active = true;
      return;
    }
    if (!registration.claim())
      return;
    count++;
    registration.pollable->rest();
    registration.released_since_turn_ms = last_turn_ms;
    // So that it is told of what is there already, should it have overlooked something: a receive
    // ends early at descriptors that are passed, and at urgent data.
    registration.input_is_suspended = true;
    if (wait(registration) != Wait::begun)
      woken = &registration;
  });
  worker.set_has_active_pollables(has_active);
  // Those that are left come soon, but others that have something to do come between.
  release_from_ms_.store(now + (count == MAX_RELEASES_AT_ONCE ? 1 : RELEASE_EVERY_MS));
  return woken;
}

} // namespace asyncnbd::connection
