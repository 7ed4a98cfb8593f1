// Which clients of an export belong together, and what each has done since its last flush.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::filters {

// What decides whether a flush is needed.
enum class TrackDirty : uint8_t { connection, fast, off };

// When something happened last, by a clock that counts such events. A flush that begins later
// covers it.
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
  // Release pairs with acquire: a thread that sees a time sees what was done before it.
  std::atomic<uint64_t> time_{0};
};

// A client.
struct Member {
  explicit Member(std::shared_ptr<backend::Backend> below) : below(std::move(below)) {}

  LastTime read;
  LastTime written;
  LastTime flushed;

  // With the lock of Members:
  std::shared_ptr<backend::Backend> below; // nullptr: no flush for others may begin there
  unsigned awaited = 0;                    // flushes for others that have not come to it yet
  unsigned users = 0;                      // flushes for others that are in progress in it
  bool is_unused = false;                  // it leaves without having been used
  bool is_client_gone = false; // the backend below is to be told, once nobody flushes it
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
  // Call it after the client's last request. Waits for flushes for others that are in progress in
  // the member or will come to it, unless it is given up.
  void leave(const SharedGroup &group, const SharedMember &member);
  // For a member that has not been used: waits a short time for the flushes in progress in it.
  // False: some are left, and the caller must try again.
  bool leave_unused(const SharedGroup &group, const SharedMember &member,
                    std::chrono::milliseconds patience);
  // Flushes for others that have not come to the member yet fail, and `leave` does not wait for
  // them. True: the backend below must still be told that the client is gone.
  bool give_up(Member &member);
  // False: nobody flushes the member. Otherwise the backend below is told once that is over.
  bool tell_gone_later(Member &member);

  // The members besides `member` that a flush has to include. Then call use and later let_go for
  // each of them, or forget.
  std::vector<SharedMember> hold_others(const Group &group, const Member &member, TrackDirty track);
  static void use(Member &member); // with the lock
  void let_go(Member &member);     // may be inside a completion
  void forget(const std::vector<SharedMember> &awaited);
  bool is_unused(const Member &member);

  // All of the group have been flushed by a flush that began at `time`.
  void note_flushed(Group &group, uint64_t time);

  // The time when a flush begins. Everything that happened until then has been raised.
  uint64_t now() const { return clock_.load(std::memory_order_acquire); }

  // Something has happened. `raise(time)` raises what depends on it, perhaps several times, before
  // the clock shows that time: a flush that begins then or later finds it raised. A flush that has
  // begun before has an earlier time, and does not cover it.
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
  void unlink(const SharedGroup &group, const SharedMember &member);

  // Release pairs with the acquire of a flush, which sees what was done before the time it reads.
  std::atomic<uint64_t> clock_{0};
  Mutex mutex_; // guards the groups, and who flushes what for whom
  base::Condition changed_;
  std::vector<SharedGroup> groups_;
};

// Whether a flush has to include the member.
bool needs_flush(const Group &group, const Member &member, TrackDirty track);

} // namespace asyncnbd::filters
