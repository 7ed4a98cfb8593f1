// See stall_guard.hpp.
#include "connection/stall_guard.hpp"

#include <algorithm>
#include <condition_variable>
#include <pthread.h>
#include <vector>

#include "host/thread_pool.hpp"

namespace asyncnbd::connection {

namespace {

using std::chrono::milliseconds;
using Clock = StallMeter::Clock;

// A client that moves so much has gone on.
constexpr uint64_t STEP_BYTES = 128 << 10;
// The slowest client that keeps others from memory may take so long, whatever its limit.
constexpr milliseconds PRESSED_LIMIT{10'000};
constexpr milliseconds TICK{250};

} // namespace

Clock::time_point StallMeter::slow_since(uint64_t moved_bytes, uint64_t part) {
  std::lock_guard lock(mutex_);
  if (part != part_ || moved_bytes - moved_bytes_ >= STEP_BYTES) {
    since_ = Clock::now();
    moved_bytes_ = moved_bytes;
    part_ = part;
  }
  return since_;
}

// One of a process, with a thread that sleeps while nobody stalls.
class StallGuard {
public:
  // Never destroyed: its thread outlives main's statics.
  static StallGuard &instance() {
    static auto *guard = new StallGuard;
    return *guard;
  }

  void add(StallWatch &watch) {
    std::lock_guard lock(mutex_);
    watches_.push_back(&watch);
    if (!is_started_) // without it, nobody is cut: the next one tries again
      is_started_ = host::start_thread(&StallGuard::thread_main, this);
    if (watches_.size() == 1)
      wake_.notify_one();
  }

  void remove(StallWatch &watch) {
    std::lock_guard lock(mutex_);
    watches_.erase(std::find(watches_.begin(), watches_.end(), &watch));
  }

private:
  static void *thread_main(void *guard) {
    pthread_setname_np(pthread_self(), "nbd-stalls");
    static_cast<StallGuard *>(guard)->work();
    return nullptr;
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return !watches_.empty(); });
      wake_.wait_for(lock, TICK);
      look(Clock::now());
    }
  }

  // Of those that keep others waiting, one at a time: its memory may be enough.
  void look(Clock::time_point now) {
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

  static void report(StallWatch &watch, Clock::time_point now) {
    watch.is_reported_ = true;
    watch.whose_.on_stall(watch.stall_,
                          std::chrono::duration_cast<milliseconds>(now - watch.since_));
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<StallWatch *> watches_;
  bool is_started_ = false;
};

StallWatch::StallWatch(Stallable &whose, Stall stall, Clock::time_point since, milliseconds limit)
    : whose_(whose), stall_(stall), since_(since), limit_(limit) {
  StallGuard::instance().add(*this);
}

StallWatch::~StallWatch() {
  StallGuard::instance().remove(*this);
}

} // namespace asyncnbd::connection
