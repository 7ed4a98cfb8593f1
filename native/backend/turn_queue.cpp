// See turn_queue.hpp.
#include "backend/turn_queue.hpp"

#include <algorithm>

#include "base/invariant.hpp"

namespace asyncnbd::backend {

namespace {

// How often to check whether workers make progress.
constexpr std::chrono::milliseconds LOOK_AFTER{1};
// A worker that has made more calls since the last check keeps up with what waits.
constexpr unsigned FEW_CALLS = 16;
// How many of the workers must be inside calls, on average, before more are started: if they spend
// their time on sending answers, more of them would only wait for each other.
constexpr unsigned ALL_INSIDE = 256;
constexpr unsigned MANY_INSIDE = ALL_INSIDE * 3 / 4;
constexpr unsigned LOOKS_AVERAGED = 8;

} // namespace

bool TurnQueue::try_begin() {
  if (waiting_count_.load() > 0)
    return false;
  if (running_.fetch_add(1) < most_)
    return true;
  end(); // a thread may have found the turn taken meanwhile, and wait
  return false;
}

// If it fails, the owner of the turn sees at the turn's end that somebody waits.
bool TurnQueue::take_locked() {
  if (running_.fetch_add(1) < most_)
    return true;
  const unsigned running = running_.fetch_sub(1);
  base::invariant(running > 0, "a turn that is not taken was counted");
  return false;
}

void TurnQueue::end() {
  const unsigned running = running_.fetch_sub(1);
  base::invariant(running > 0, "a turn that ends has begun");
  if (waiting_count_.load() > 0) {
    Lock lock(mutex_);
    serve_waiting(lock);
  }
}

void TurnQueue::lock() {
  if (try_begin())
    return;
  bool is_granted = false;
  Lock lock(mutex_);
  waiting_.push_back({nullptr, nullptr, &is_granted});
  waiting_count_.fetch_add(1);
  serve_waiting(lock);
  changed_.wait(lock, [&] { return is_granted; });
}

bool TurnQueue::wait_for_turn(TurnTaker &taker, Request *request, bool may_block) {
  Lock lock(mutex_);
  waiting_.push_back({&taker, request, nullptr});
  waiting_count_.fetch_add(1);
  serve_waiting(lock);
  if (!has_workers() || workers_ > 0)
    return true;
  if (may_block && running_.load() < most_ && work_instead(lock))
    return true;
  const auto place = std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting &waiting) {
    return waiting.taker == &taker && waiting.request == request;
  });
  // The thread that ends a turn may find no thread for a worker: then the timer tries again.
  if (place == waiting_.end() || workers_ > 0 || resources_.timers.ensure_started())
    return true;
  waiting_.erase(place);
  waiting_count_.fetch_sub(1);
  return false;
}

// Locked. Makes the calls that wait now. False: not all of them.
bool TurnQueue::work_instead(Lock &lock) {
  workers_++;
  size_t left = waiting_.size();
  while (left > 0 && calls_next(lock))
    left--;
  leave_work(lock);
  return left == 0;
}

// Locked. Turns that are free go to threads that wait at the front, and to workers.
void TurnQueue::serve_waiting(Lock &lock) {
  if (!has_workers()) {
    call_here(lock);
    return;
  }
  while (!waiting_.empty() && running_.load() < most_) {
    if (waiting_.front().taker != nullptr) {
      start_workers();
      break;
    }
    if (!take_locked())
      break;
    grant_first();
  }
  const bool may_need_more = workers_ > 0 && wanted_workers_ < most_workers_;
  const bool has_no_thread = workers_ < usable_workers() && running_.load() < most_;
  if (!waiting_.empty() && (may_need_more || has_no_thread))
    look_later();
}

// Locked, with a turn: for the thread at the front.
void TurnQueue::grant_first() {
  base::invariant(waiting_.front().is_granted != nullptr, "a thread is granted what it waits for");
  *waiting_.front().is_granted = true;
  waiting_.pop_front();
  waiting_count_.fetch_sub(1);
  ended_waits_++;
  changed_.notify_all();
}

// Locked, with a turn: for the request at the front. Unlocked meanwhile.
void TurnQueue::call_first(Lock &lock) {
  const Waiting first = waiting_.front();
  waiting_.pop_front();
  waiting_count_.fetch_sub(1);
  ended_waits_++;
  called_.push_back(first.taker);
  lock.unlock();
  first.taker->take_turn(first.request);
  lock.lock();
  const auto called = std::find(called_.begin(), called_.end(), first.taker);
  base::invariant(called != called_.end(), "a call that returns was noted");
  called_.erase(called);
  changed_.notify_all();
}

// Locked. One thread at a time: a call that ends its turn at once, or on another thread, is
// followed by the next from here, not from inside it.
void TurnQueue::call_here(Lock &lock) {
  if (is_calling_here_)
    return;
  is_calling_here_ = true;
  while (!waiting_.empty() && take_locked()) {
    if (waiting_.front().taker == nullptr)
      grant_first();
    else
      call_first(lock);
  }
  is_calling_here_ = false;
}

// Locked. Those inside calls take nothing of what waits now.
size_t TurnQueue::usable_workers() const {
  return std::min<size_t>(wanted_workers_, called_.size() + waiting_.size());
}

// Locked.
void TurnQueue::start_workers() {
  const size_t usable = usable_workers();
  while (workers_ < usable && resources_.threads.run([self = shared_from_this()] { self->work(); }))
    workers_++;
}

// Locked. Sets the timer unless it is set: long calls only show by not ending.
void TurnQueue::look_later() {
  if (is_watched_)
    return;
  ended_waits_seen_ = ended_waits_;
  is_watched_ = resources_.timers.set(*this, resources_.clock.now() + LOOK_AFTER);
}

void TurnQueue::on_due() {
  Lock lock(mutex_);
  is_watched_ = false;
  if (waiting_.empty()) {
    wanted_workers_ = 1;
    inside_calls_ = 0;
    return;
  }
  if (do_calls_last())
    wanted_workers_ = std::min(2 * wanted_workers_, most_workers_);
  serve_waiting(lock);
}

// Locked.
bool TurnQueue::do_calls_last() {
  if (workers_ == 0)
    return false;
  const uint64_t begun = ended_waits_ - ended_waits_seen_;
  const unsigned inside = std::min(running_.load(), workers_);
  inside_calls_ =
      (inside_calls_ * (LOOKS_AVERAGED - 1) + ALL_INSIDE * inside / workers_) / LOOKS_AVERAGED;
  if (begun <= workers_ && inside == workers_)
    return true; // obvious at once
  return begun <= uint64_t{FEW_CALLS} * workers_ && inside_calls_ >= MANY_INSIDE;
}

void TurnQueue::work() {
  Lock lock(mutex_);
  while (calls_next(lock)) {
  }
  leave_work(lock);
}

// Locked. False: no request waits for a worker, or all turns are taken.
bool TurnQueue::calls_next(Lock &lock) {
  if (waiting_.empty() || waiting_.front().taker == nullptr || !take_locked())
    return false;
  call_first(lock);
  return true;
}

// Locked.
void TurnQueue::leave_work(Lock &lock) {
  base::invariant(workers_ > 0, "a worker that ends was counted");
  workers_--;
  if (waiting_.empty() && wanted_workers_ > 1)
    look_later();      // whether this stays so
  serve_waiting(lock); // for new arrivals, or for a thread that waits
}

std::vector<Request *> TurnQueue::withdraw(const TurnTaker &taker) {
  Lock lock(mutex_);
  std::vector<Request *> withdrawn;
  for (const Waiting &waiting : waiting_)
    if (waiting.taker == &taker)
      withdrawn.push_back(waiting.request);
  waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(),
                                [&](const Waiting &waiting) { return waiting.taker == &taker; }),
                 waiting_.end());
  waiting_count_.fetch_sub(static_cast<unsigned>(withdrawn.size()));
  serve_waiting(lock); // the first in line may now be a thread
  return withdrawn;
}

void TurnQueue::wait_for_workers(const TurnTaker &taker) {
  Lock lock(mutex_);
  changed_.wait(lock,
                [&] { return std::find(called_.begin(), called_.end(), &taker) == called_.end(); });
}

} // namespace asyncnbd::backend
