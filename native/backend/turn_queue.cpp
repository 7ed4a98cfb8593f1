// See turn_queue.hpp.
#include "backend/turn_queue.hpp"

#include <algorithm>

#include "base/invariant.hpp"

namespace asyncnbd::backend {

namespace {

// How often it is looked whether workers get on.
constexpr std::chrono::milliseconds LOOK_AFTER{1};
// A worker that has made no more calls since the last look is not alone worth what waits.
constexpr unsigned FEW_CALLS = 16;

} // namespace

bool TurnQueue::try_begin() {
  if (waiting_count_.load() > 0)
    return false;
  if (running_.fetch_add(1) < most_)
    return true;
  end(); // somebody may have found it taken meanwhile, and waits
  return false;
}

// If it fails, who has the turn sees at its end that somebody waits.
bool TurnQueue::take_locked() {
  if (running_.fetch_add(1) < most_)
    return true;
  running_.fetch_sub(1);
  return false;
}

void TurnQueue::end() {
  const unsigned running = running_.fetch_sub(1);
  base::invariant(running > 0, "a turn that ends has begun");
  if (waiting_count_.load() > 0) {
    std::lock_guard lock(mutex_);
    serve_waiting();
  }
}

void TurnQueue::lock() {
  if (try_begin())
    return;
  bool is_granted = false;
  std::unique_lock lock(mutex_);
  waiting_.push_back({nullptr, nullptr, &is_granted});
  waiting_count_.fetch_add(1);
  serve_waiting();
  changed_.wait(lock, [&] { return is_granted; });
}

void TurnQueue::wait_for_turn(TurnTaker &taker, Request &request) {
  std::lock_guard lock(mutex_);
  waiting_.push_back({&taker, &request, nullptr});
  waiting_count_.fetch_add(1);
  serve_waiting();
}

// Locked. Turns that are free go to threads that wait at the front, and to workers.
void TurnQueue::serve_waiting() {
  while (!waiting_.empty() && running_.load() < most_) {
    if (waiting_.front().taker != nullptr) {
      start_workers();
      break;
    }
    if (!take_locked())
      break;
    *waiting_.front().is_granted = true;
    waiting_.pop_front();
    waiting_count_.fetch_sub(1);
    ended_waits_++;
    changed_.notify_all();
  }
  const bool may_need_more = workers_ > 0 && wanted_workers_ < most_workers_;
  const bool has_no_thread = workers_ == 0 && running_.load() < most_;
  if (!waiting_.empty() && (may_need_more || has_no_thread))
    look_later();
}

// Locked.
void TurnQueue::start_workers() {
  const auto wanted = std::min<size_t>(wanted_workers_, waiting_.size());
  while (workers_ < wanted && resources_.threads.run([self = shared_from_this()] { self->work(); }))
    workers_++;
}

// Locked. Unless it is looked at already: calls that last show only by that nothing ends.
void TurnQueue::look_later() {
  if (is_watched_)
    return;
  ended_waits_seen_ = ended_waits_;
  is_watched_ = resources_.timers.set(*this, resources_.clock.now() + LOOK_AFTER);
}

void TurnQueue::on_due() {
  std::lock_guard lock(mutex_);
  is_watched_ = false;
  if (waiting_.empty()) {
    wanted_workers_ = 1;
    return;
  }
  if (ended_waits_ - ended_waits_seen_ <= uint64_t{FEW_CALLS} * workers_)
    wanted_workers_ = std::min(2 * wanted_workers_, most_workers_);
  serve_waiting();
}

void TurnQueue::work() {
  std::unique_lock lock(mutex_);
  while (!waiting_.empty() && waiting_.front().taker != nullptr && take_locked()) {
    const Waiting next = waiting_.front();
    waiting_.pop_front();
    waiting_count_.fetch_sub(1);
    ended_waits_++;
    in_workers_.push_back(next.taker);
    lock.unlock();
    next.taker->take_turn(*next.request);
    lock.lock();
    in_workers_.erase(std::find(in_workers_.begin(), in_workers_.end(), next.taker));
    changed_.notify_all();
  }
  workers_--;
  if (waiting_.empty() && wanted_workers_ > 1)
    look_later();  // whether that stays so
  serve_waiting(); // what has come since, or is for somebody else
}

std::vector<Request *> TurnQueue::withdraw(const TurnTaker &taker) {
  std::lock_guard lock(mutex_);
  std::vector<Request *> withdrawn;
  for (const Waiting &waiting : waiting_)
    if (waiting.taker == &taker)
      withdrawn.push_back(waiting.request);
  waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(),
                                [&](const Waiting &waiting) { return waiting.taker == &taker; }),
                 waiting_.end());
  waiting_count_.fetch_sub(static_cast<unsigned>(withdrawn.size()));
  serve_waiting(); // who comes first now may be a thread
  return withdrawn;
}

void TurnQueue::wait_for_workers(const TurnTaker &taker) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return std::find(in_workers_.begin(), in_workers_.end(), &taker) == in_workers_.end();
  });
}

} // namespace asyncnbd::backend
