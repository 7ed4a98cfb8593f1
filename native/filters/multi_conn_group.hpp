// Which clients of an export belong together, and what each has done since its last flush.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::filters {

// What decides whether a flush is needed.
enum class TrackDirty : uint8_t { connection, fast, off };

// The last time that something has happened, of a clock that counts what happens. A flush that has
// begun later covers it.
class LastTime {
public:
  void raise(uint64_t time) {
    uint64_t known = time_.load(std::memory_order_relaxed);
    while (known < time && !time_.compare_exchange_weak(known, time, std::memory_order_acq_rel))
      ;
  }
  bool is_after(const LastTime &other) const {
    return time_.load(std::memory_order_acquire) > other.time_.load(std::memory_order_acquire);
  }

private:
  // Release pairs with acquire: who sees that something was flushed sees what was before it.
  std::atomic<uint64_t> time_{0};
};

// A client.
struct Member {
  explicit Member(backend::Backend &below) : below(below) {}

  backend::Backend &below; // until it has left
  LastTime read;
  LastTime written;
  LastTime flushed;
  unsigned users = 0; // who flush it for others, with the lock of Members
};

using SharedMember = std::shared_ptr<Member>;

struct Group {
  std::string name;
  LastTime written;
  LastTime flushed;
  std::vector<SharedMember> members; // with the lock of Members
};

using SharedGroup = std::shared_ptr<Group>;

// All clients of a filter. Thread-safe.
class Members {
public:
  SharedGroup join(const std::string &name, const SharedMember &member);
  // Waits for those that flush it. After the client's last request.
  void leave(const SharedGroup &group, const SharedMember &member);

  // Those beside `member` that a flush has to include. They stay until they are let go.
  std::vector<SharedMember> hold_others(const Group &group, const Member &member, TrackDirty track);
  void let_go(const std::vector<SharedMember> &held);

  // All of the group have been flushed by a flush that began at `time`.
  void note_flushed(Group &group, uint64_t time);

  // When a flush begins: what has happened until then has been raised.
  uint64_t now() const { return clock_.load(std::memory_order_acquire); }

  // Something has happened. `raise(time)` raises what depends on it, perhaps several times: it does
  // so before the clock shows that time, so a flush that begins then, or later, finds it raised.
  // One that has begun before has an earlier time, and covers none of the last call's.
  template <typename Raise> void tick(const Raise &raise) {
    uint64_t now = clock_.load(std::memory_order_acquire);
    do
      raise(now + 1);
    while (!clock_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire));
  }

  using Mutex = base::Mutex<base::LockRank::multi_conn>;
  Mutex &mutex() { return mutex_; }

private:
  // Release pairs with the acquire of a flush: what was done before a time has been done then.
  std::atomic<uint64_t> clock_{0};
  Mutex mutex_; // guards the groups, and who flushes what for whom
  base::Condition changed_;
  std::vector<SharedGroup> groups_;
};

// Whether a flush has to include it.
bool needs_flush(const Group &group, const Member &member, TrackDirty track);

} // namespace asyncnbd::filters
