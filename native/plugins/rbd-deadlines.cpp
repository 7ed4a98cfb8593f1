// See rbd-deadlines.hpp.
#include "rbd-deadlines.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace rbd {

namespace {

// librbd keeps overdue requests, and their data, until it is done with them.
constexpr size_t MAX_OVERDUE = 1024;
constexpr uint64_t MAX_OVERDUE_BYTES = 256 << 20;

constexpr int64_t NS_PER_SECOND = 1'000'000'000;

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

timespec to_timespec(int64_t ns) {
  return {static_cast<time_t>(ns / NS_PER_SECOND), static_cast<long>(ns % NS_PER_SECOND)};
}

bool overlap(const Pending &one, const Pending &other) {
  return one.offset < other.offset + other.count && other.offset < one.offset + one.count;
}

} // namespace

/// Why the request must not be given to librbd now; null if it may.
const char *Deadlines::obstacle(const Pending &pending) const {
  if (overdue_.size() >= MAX_OVERDUE || overdue_bytes_ + pending.held_bytes > MAX_OVERDUE_BYTES)
    return "too many earlier requests are overdue, and the cluster may still carry them out";
  const auto is_in_the_way = [&](const Pending *earlier) {
    return earlier->changes_data && overlap(*earlier, pending);
  };
  if (std::any_of(overdue_.begin(), overdue_.end(), is_in_the_way))
    return "an earlier write to the same range is overdue, and the cluster may still carry it out";
  return nullptr;
}

int Deadlines::begin(Pending &pending) {
  if (!are_set())
    return 0;
  std::unique_lock lock(mutex_);
  if (!overdue_.empty()) {
    if (const char *const reason = obstacle(pending)) {
      lock.unlock();
      nbdkit_error("%s: a request fails at once: %s", full_name_.c_str(), reason);
      return EIO;
    }
  }
  pending.due_ns = now_ns() + limit_seconds_ * NS_PER_SECOND;
  try {
    pending.place = due_.insert(due_.end(), &pending);
    return 0;
  } catch (const std::bad_alloc &) {
    nbdkit_error("%s: %s", full_name_.c_str(), strerror(ENOMEM));
    return ENOMEM;
  }
}

bool Deadlines::hand_over(Pending &pending) {
  if (!are_set())
    return true;
  std::lock_guard lock(mutex_);
  if (!pending.is_overdue)
    pending.librbd_has_it = true;
  return !pending.is_overdue;
}

bool Deadlines::end(Pending &pending) {
  if (!are_set())
    return true;
  std::lock_guard lock(mutex_);
  if (!pending.is_overdue) {
    due_.erase(pending.place);
    return true;
  }
  if (pending.librbd_has_it) {
    overdue_.erase(pending.place);
    overdue_bytes_ -= pending.held_bytes;
  }
  return false;
}

bool Deadlines::is_overdue(const Pending &pending) {
  if (!are_set())
    return false;
  std::lock_guard lock(mutex_);
  return pending.is_overdue;
}

/// Fails the first request that is due by `now`. False: none is due.
bool Deadlines::expire_one(int64_t now) {
  void *conn;
  uint64_t reqid;
  {
    std::lock_guard lock(mutex_);
    if (due_.empty() || due_.front()->due_ns > now)
      return false;
    Pending &pending = *due_.front();
    pending.is_overdue = true;
    if (pending.librbd_has_it) {
      overdue_bytes_ += pending.held_bytes;
      overdue_.splice(overdue_.end(), due_, due_.begin());
    } else {
      due_.pop_front();
    }
    conn = pending.conn; // copied: once the lock is released, end() lets its owner free it
    reqid = pending.reqid;
  }
  nbdkit_async_reply_errno(conn, reqid, EIO);
  return true;
}

timespec Deadlines::expire() {
  const int64_t now = now_ns();
  unsigned failed = 0;
  while (expire_one(now))
    failed++;
  if (failed > 0)
    nbdkit_error("%s: the cluster has not answered %u request%s within timeout=%u",
                 full_name_.c_str(), failed, failed == 1 ? "" : "s", limit_seconds_);
  std::lock_guard lock(mutex_);
  // A request that begins later than `now` has at least a whole limit left.
  return to_timespec(due_.empty() ? now + limit_seconds_ * NS_PER_SECOND : due_.front()->due_ns);
}

} // namespace rbd
