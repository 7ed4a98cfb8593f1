// See timers.hpp.
#include "base/timers.hpp"

#include <utility>

#include "base/invariant.hpp"

namespace asyncnbd::base {

bool Timers::ensure_started() {
  std::lock_guard lock(mutex_);
  return is_started_locked();
}

// Locked.
bool Timers::is_started_locked() {
  if (!is_started_)
    is_started_ = threads_.start("nbd-timers", [this] { work(); });
  return is_started_;
}

bool Timers::set(Timer &timer, Time due) {
  std::lock_guard lock(mutex_);
  if (!is_started_locked())
    return false;
  if (timer.place_ != Timer::NOT_SET)
    remove(timer);
  insert(timer, due);
  if (heap_.front() == &timer)
    wake_.notify_one();
  return true;
}

void Timers::cancel(Timer &timer) {
  std::unique_lock lock(mutex_);
  if (timer.place_ != Timer::NOT_SET)
    remove(timer);
  if (running_on_ != std::this_thread::get_id())
    called_.wait(lock, [&] { return running_ != &timer; });
  // It may have set itself again meanwhile.
  if (timer.place_ != Timer::NOT_SET)
    remove(timer);
}

std::optional<Time> Timers::run_due() {
  std::unique_lock lock(mutex_);
  const Time now = clock_.now(); // once: who sets itself to now must not keep others waiting
  running_on_ = std::this_thread::get_id();
  while (!heap_.empty() && heap_.front()->due_ <= now) {
    invariant(running_ == nullptr, "one thread at a time calls timers");
    running_ = heap_.front();
    remove(*running_);
    lock.unlock();
    running_->on_due();
    lock.lock();
    running_ = nullptr;
    called_.notify_all();
  }
  running_on_ = {};
  return heap_.empty() ? std::nullopt : std::optional(heap_.front()->due_);
}

size_t Timers::size() const {
  std::lock_guard lock(mutex_);
  return heap_.size();
}

void Timers::work() {
  for (;;) {
    run_due();
    std::unique_lock lock(mutex_); // under it, the first is looked at again: another may be it now
    if (heap_.empty()) {
      wake_.wait(lock);
    } else {
      const Time due = heap_.front()->due_; // a copy: who cancels a timer may destroy it meanwhile
      wake_.wait_until(lock, due);
    }
  }
}

// ---- the heap ----------------------------------------------------------------------------------

void Timers::put(size_t place, Timer &timer) {
  heap_[place] = &timer;
  timer.place_ = place;
}

void Timers::insert(Timer &timer, Time due) {
  timer.due_ = due;
  heap_.push_back(&timer);
  sift_up(heap_.size() - 1, timer);
}

void Timers::remove(Timer &timer) {
  const size_t place = std::exchange(timer.place_, Timer::NOT_SET);
  invariant(place < heap_.size() && heap_[place] == &timer, "a timer that is set is in its place");
  Timer *last = heap_.back();
  heap_.pop_back();
  if (last == &timer)
    return;
  if (place > 0 && last->due_ < heap_[(place - 1) / 2]->due_)
    sift_up(place, *last);
  else
    sift_down(place, *last);
}

void Timers::sift_up(size_t place, Timer &timer) {
  while (place > 0 && timer.due_ < heap_[(place - 1) / 2]->due_) {
    put(place, *heap_[(place - 1) / 2]);
    place = (place - 1) / 2;
  }
  put(place, timer);
}

void Timers::sift_down(size_t place, Timer &timer) {
  for (;;) {
    size_t child = 2 * place + 1;
    if (child + 1 < heap_.size() && heap_[child + 1]->due_ < heap_[child]->due_)
      child++;
    if (child >= heap_.size() || heap_[child]->due_ >= timer.due_)
      break;
    put(place, *heap_[child]);
    place = child;
  }
  put(place, timer);
}

} // namespace asyncnbd::base
