// See slow_call_detector.hpp.
#include "schedule/slow_call_detector.hpp"

#include <algorithm>
#include <ctime>

namespace asyncnbd::schedule {

void SlowCallDetector::add(SlowCallListener *listener, const CallWord &calls) {
  std::lock_guard lock(mutex_);
  entries_.push_back({listener, &calls, 0});
  if (!started_)
    started_ = threads_.start("nbd-slow-calls", [this] { work(); });
}

void SlowCallDetector::remove(SlowCallListener *listener) {
  std::lock_guard lock(mutex_);
  entries_.erase(std::find_if(entries_.begin(), entries_.end(), [listener](const Entry &entry) {
    return entry.listener == listener;
  }));
}

void SlowCallDetector::wake() {
  std::lock_guard lock(mutex_);
  if (asleep_.exchange(false))
    wake_.notify_one();
}

SlowCallDetector::Pause SlowCallDetector::tick() {
  std::lock_guard lock(mutex_);
  return look_and_decide();
}

SlowCallDetector::Pause SlowCallDetector::look_and_decide() {
  const Scan scan = look();
  fast_ticks_left_ = scan.is_slow ? FAST_TICKS : std::max(0, fast_ticks_left_ - 1);
  quiet_ticks_ = scan.is_busy ? 0 : quiet_ticks_ + 1;
  if (quiet_ticks_ >= QUIET_TICKS)
    return Pause::until_notice;
  return fast_ticks_left_ > 0 ? Pause::fast : Pause::slow;
}

void SlowCallDetector::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const Pause pause = look_and_decide();
    if (pause != Pause::until_notice) {
      // Nobody signals during a tick: this is a sleep that lets others have the lock.
      lock.unlock();
      const timespec tick{0, (pause == Pause::fast ? FAST_TICK : SLOW_TICK).count() * 1000};
      nanosleep(&tick, nullptr);
      lock.lock();
      continue;
    }
    asleep_.store(true);
    if (!look().is_busy) // a call may have begun before it could see that we sleep
      wake_.wait(lock, [this] { return !asleep_.load(); });
    asleep_.store(false);
    quiet_ticks_ = 0;
  }
}

SlowCallDetector::Scan SlowCallDetector::look() {
  Scan scan;
  for (Entry &entry : entries_) {
    const uint64_t call = call_in(*entry.calls);
    if (call != 0 && call == entry.seen_call && entry.listener->on_slow_call(call))
      scan.is_slow = true;
    // Calls begun and ended since the last tick are a reason to stay awake too.
    scan.is_busy = scan.is_busy || call != 0;
    entry.seen_call = call;
  }
  return scan;
}

} // namespace asyncnbd::schedule
