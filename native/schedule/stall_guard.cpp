// See stall_guard.hpp.
#include "schedule/stall_guard.hpp"

#include <algorithm>

namespace asyncnbd::schedule {

namespace {

using std::chrono::milliseconds;

// A client that moves so much has gone on.
constexpr uint64_t STEP_BYTES = 128 << 10;
// The slowest client that keeps others from memory may take so long, whatever its limit.
constexpr milliseconds PRESSED_LIMIT{10'000};
constexpr milliseconds TICK{250};

} // namespace

base::Time StallMeter::slow_since(base::Time now, uint64_t moved_bytes, uint64_t part) {
  std::lock_guard lock(mutex_);
  if (part != part_ || moved_bytes - moved_bytes_ >= STEP_BYTES) {
    since_ = now;
    moved_bytes_ = moved_bytes;
    part_ = part;
  }
  return since_;
}

void StallGuard::add(StallWatch &watch) {
  std::lock_guard lock(mutex_);
  watches_.push_back(&watch);
  set_timer(clock_.now());
}

void StallGuard::remove(StallWatch &watch) {
  std::lock_guard lock(mutex_);
  watches_.erase(std::find(watches_.begin(), watches_.end(), &watch));
}

// If the system has no thread for it, nobody is cut until the next one is watched.
void StallGuard::set_timer(base::Time now) {
  if (!is_set_)
    is_set_ = timers_.set(*this, now + TICK);
}

void StallGuard::on_due() {
  std::lock_guard lock(mutex_);
  is_set_ = false;
  const base::Time now = clock_.now();
  look(now);
  if (!watches_.empty())
    set_timer(now);
}

// Of those that keep others waiting, one at a time: its memory may be enough.
void StallGuard::look(base::Time now) {
  StallWatch *slowest = nullptr;
  for (StallWatch *watch : watches_) {
    if (watch->is_reported_)
      continue;
    if (now - watch->since_ >= watch->limit_)
      report(*watch, now);
    else if (now - watch->since_ >= PRESSED_LIMIT && watch->whose_.keeps_others_waiting() &&
             (slowest == nullptr || watch->since_ < slowest->since_))
      slowest = watch;
  }
  if (slowest != nullptr)
    report(*slowest, now);
}

void StallGuard::report(StallWatch &watch, base::Time now) {
  watch.is_reported_ = true;
  watch.whose_.on_stall(watch.stall_, std::chrono::duration_cast<milliseconds>(now - watch.since_));
}

StallWatch::StallWatch(StallGuard &guard, Stallable &whose, Stall stall, base::Time since,
                       milliseconds limit)
    : guard_(guard), whose_(whose), stall_(stall), since_(since), limit_(limit) {
  guard_.add(*this);
}

StallWatch::~StallWatch() {
  guard_.remove(*this);
}

} // namespace asyncnbd::schedule
