// See idle_poller.hpp.
#include "schedule/idle_poller.hpp"

#include <algorithm>

#include "base/invariant.hpp"
#include "schedule/pollable.hpp"

namespace asyncnbd::schedule {

namespace {

// A pollable that has had no turn for this long releases memory; workers look for such ones as
// often.
constexpr int RELEASE_EVERY_MS = 1000;
// Releasing the memory of one takes some microseconds; meanwhile this thread serves nobody.
constexpr unsigned MAX_RELEASES_AT_ONCE = 64;

} // namespace

IdlePoller::IdlePoller(const base::Clock &clock, base::Threads &threads, SlowCallDetector &detector,
                       SpinLimit &spin_limit, Poller &poller, unsigned cores)
    : clock_(clock), threads_(threads), detector_(detector), spin_limit_(spin_limit),
      table_(clock, poller), max_workers_(std::max(1u, cores)), unfilled_workers_(*this, detector) {
}

int64_t IdlePoller::now_ms() const {
  return base::in_ms(clock_.now());
}

void IdlePoller::candidate_begins(unsigned spin_us) {
  spin_us_.store(spin_us, std::memory_order_relaxed);
  if (candidates_.fetch_add(1, std::memory_order_relaxed) + 1 >= OPEN_FROM)
    is_open_.store(true, std::memory_order_relaxed);
}

unsigned IdlePoller::candidate_ends() {
  const unsigned before = candidates_.fetch_sub(1, std::memory_order_relaxed);
  base::invariant(before > 0, "a candidate that ends has begun");
  const unsigned left = before - 1;
  if (left < CLOSED_BELOW)
    is_open_.store(false, std::memory_order_relaxed);
  return left;
}

bool IdlePoller::delays_others() {
  const PollWorker *worker = PollWorker::of_this_thread();
  return worker != nullptr && worker->has_turn();
}

bool IdlePoller::is_replaced() {
  const PollWorker *worker = PollWorker::of_this_thread();
  return worker != nullptr && !worker->has_turn();
}

void IdlePoller::before_delay() {
  if (PollWorker *worker = PollWorker::of_this_thread())
    worker->replace();
}

void IdlePoller::replace_worker(Registration &registration) {
  // The detector's thread runs this: a worker seen here cannot end before the detector has removed
  // it.
  if (PollWorker *worker = registration.worker.load(std::memory_order_acquire))
    worker->replace();
}

// In the place of a worker that has been replaced.
void IdlePoller::start_worker() {
  const bool is_started = threads_.run([this] {
    work();
    offer_thread();
  });
  if (!is_started)
    unfilled_workers_.add();
}

// Sequentially consistent, as `add` and the end of `work`: if a pollable comes while the last
// worker goes, one of the two sees the other.
void IdlePoller::offer_thread() {
  while (unfilled_workers_.take())
    work();
  unsigned workers = workers_.load();
  while (workers < max_workers_ && table_.count() > 0) {
    if (!workers_.compare_exchange_weak(workers, workers + 1))
      continue;
    work();
    workers = workers_.load();
  }
}

// As one of the workers.
void IdlePoller::work() {
  PollWorker worker(*this, clock_, detector_, spin_limit_,
                    spin_us_.load(std::memory_order_relaxed));
  bool is_ours = true;
  while (is_ours) {
    Registration *registration = next_ready(worker);
    if (registration == nullptr && table_.count() == 0) {
      workers_.fetch_sub(1);
      return;
    }
    if (registration != nullptr && registration->notify())
      is_ours = worker.serve(*registration);
    if (is_ours && (registration == nullptr || worker.turn_began_ms() >= release_from_ms_.load()))
      is_ours = release_idle_memory(worker);
  }
}

// nullptr if there has been no event for long.
Registration *IdlePoller::next_ready(PollWorker &worker) {
  Registration *registration = table_.next(0);
  if (registration == nullptr)
    worker.spin([&] {
      registration = table_.next(0);
      return registration != nullptr;
    });
  if (registration == nullptr)
    registration = table_.next(worker.may_release_memory() ? RELEASE_EVERY_MS : -1);
  return registration;
}

// False if this thread is no longer a worker.
bool IdlePoller::release_idle_memory(PollWorker &worker) {
  Registration *woken = nullptr;
  {
    std::unique_lock lock(releasing_, std::try_to_lock);
    if (!lock.owns_lock())
      return true;
    woken = release_idle_memory(now_ms(), worker);
  }
  return woken == nullptr || worker.serve(*woken);
}

// With `releasing_` held. Returns a pollable that turned out to have something to do, and that the
// caller has now.
Registration *IdlePoller::release_idle_memory(int64_t now, PollWorker &worker) {
  Registration *woken = nullptr;
  bool are_some_left = false;
  unsigned count = 0;
  table_.each([&](Registration &registration) {
    const int64_t last_turn_ms = registration.last_turn_ms.load(std::memory_order_relaxed);
    if (registration.released_since_turn_ms == last_turn_ms)
      return;
    if (now - last_turn_ms < RELEASE_EVERY_MS || woken != nullptr ||
        count == MAX_RELEASES_AT_ONCE) {
      are_some_left = true;
      return;
    }
    if (!registration.claim())
      return;
    count++;
    if (registration.pollable->release_idle_memory()) {
      registration.released_since_turn_ms = last_turn_ms;
    } else {
      registration.last_turn_ms.store(now, std::memory_order_relaxed);
      are_some_left = true;
    }
    // Resuming reports input that is there already, in case the pollable has overlooked some: a
    // receive ends early at passed descriptors and at urgent data.
    registration.input_is_suspended = true;
    if (table_.wait(registration) != PollTable::Wait::begun)
      woken = &registration;
  });
  worker.set_may_release_memory(are_some_left);
  // The rest are looked at soon, but pollables with something to do are served first.
  release_from_ms_.store(now + (count == MAX_RELEASES_AT_ONCE ? 1 : RELEASE_EVERY_MS));
  return woken;
}

} // namespace asyncnbd::schedule
