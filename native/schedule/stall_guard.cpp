// See stall_guard.hpp.
#include "schedule/stall_guard.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/invariant.hpp"

namespace asyncnbd::schedule {

namespace {

using std::chrono::milliseconds;

// A client that moves so much does not stall.
constexpr uint64_t STEP_BYTES = 128 << 10;
// The slowest clients that keep others from memory may take so long, whatever their limit.
constexpr milliseconds PRESSED_LIMIT{10'000};
// So long may a client that has the reserve, without which none of the others can go on. A lost
// packet or two are sent again in less.
constexpr milliseconds RESERVE_LIMIT{3000};
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

void StallMeter::restart(base::Time now) {
  std::lock_guard lock(mutex_);
  since_ = now;
}

void StallGuard::add(GuardedWait &wait) {
  std::lock_guard lock(mutex_);
  waits_.push_back(&wait);
  set_timer(clock_.now());
}

void StallGuard::remove(GuardedWait &wait) {
  std::lock_guard lock(mutex_);
  const auto place = std::find(waits_.begin(), waits_.end(), &wait);
  base::invariant(place != waits_.end(), "a wait that ends is guarded");
  waits_.erase(place);
}

// If the system has no thread for the timer, nothing is reported until the next wait begins.
void StallGuard::set_timer(base::Time now) {
  if (!is_set_)
    is_set_ = timers_.set(*this, now + TICK);
}

void StallGuard::on_due() {
  std::lock_guard lock(mutex_);
  is_set_ = false;
  const base::Time now = clock_.now();
  look(now);
  if (!waits_.empty())
    set_timer(now);
}

// The slowest first: of those that keep others waiting, no more are reported than have the memory
// that is wanted. A client may be waited for in both directions, but has its memory once.
void StallGuard::look(base::Time now) {
  std::sort(waits_.begin(), waits_.end(), [](const GuardedWait *one, const GuardedWait *other) {
    return one->since_ < other->since_;
  });
  std::set<const Stallable *> leaving;
  std::map<const base::MemoryBudget *, uint64_t> freed_bytes; // or about to be
  auto leave = [&](const GuardedWait &wait, const HeldMemory &held) {
    if (leaving.insert(&wait.whose_).second)
      freed_bytes[held.budget] += held.shared_bytes;
  };
  for (const GuardedWait *wait : waits_)
    if (wait->is_reported_)
      leave(*wait, wait->whose_.held_memory());
  for (GuardedWait *wait : waits_) {
    if (leaving.count(&wait->whose_) > 0)
      continue;
    const HeldMemory held = wait->whose_.held_memory();
    if (!is_over_limit(*wait, now, held, freed_bytes[held.budget]))
      continue;
    report(*wait, now);
    leave(*wait, held);
  }
}

bool StallGuard::is_over_limit(const GuardedWait &wait, base::Time now, const HeldMemory &held,
                               uint64_t freed_bytes) {
  const base::Duration lasts = now - wait.since_;
  if (lasts >= wait.limit_)
    return true;
  if (!held.keeps_others_waiting())
    return false;
  if (held.has_reserve)
    return lasts >= RESERVE_LIMIT;
  return lasts >= PRESSED_LIMIT && freed_bytes < held.budget->wanted_bytes();
}

void StallGuard::report(GuardedWait &wait, base::Time now) {
  wait.is_reported_ = true;
  wait.whose_.on_stall(wait.stall_, std::chrono::duration_cast<milliseconds>(now - wait.since_));
}

GuardedWait::GuardedWait(StallGuard &guard, Stallable &whose, Stall stall, base::Time since,
                         milliseconds limit)
    : guard_(guard), whose_(whose), stall_(stall), since_(since), limit_(limit) {
  guard_.add(*this);
}

GuardedWait::~GuardedWait() {
  guard_.remove(*this);
}

} // namespace asyncnbd::schedule
