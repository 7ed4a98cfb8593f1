// See slow_call_detector.hpp.
#include "connection/slow_call_detector.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <vector>

#include "host/thread_pool.hpp"

namespace asyncnbd::connection {

namespace {

using std::chrono::microseconds;

// Those of all leader tokens, one behind the other, so that the detector passes over a thousand of
// them without looking for each in all of memory. Each has a cache line of its own, as threads
// write them.
class CallWords {
public:
  CallWord &take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) {
      Line *lines = chunks_.emplace_back(std::make_unique<Line[]>(CHUNK)).get();
      for (size_t i = CHUNK; i-- > 0;)
        free_.push_back(&lines[i].word);
    }
    CallWord *word = free_.back();
    free_.pop_back();
    return *word;
  }

  // Its next owner's calls have other numbers.
  void put(CallWord &word) {
    std::lock_guard lock(mutex_);
    free_.push_back(&word);
  }

  // Never destroyed: threads may end after it.
  static CallWords &instance() {
    static auto *words = new CallWords;
    return *words;
  }

private:
  static constexpr size_t CHUNK = 64;
  struct alignas(64) Line {
    CallWord word{2};
  };

  std::mutex mutex_;
  std::vector<std::unique_ptr<Line[]>> chunks_;
  std::vector<CallWord *> free_;
};

uint64_t call_in(const CallWord &word) {
  const uint64_t value = word.load();
  return (value & 1) != 0 ? value : 0;
}

// Looks at every watched connection at each tick. It ticks fast while calls turn out slow,
// slowly while all are quick, and sleeps while there are none, so that it costs next to nothing
// where it is not needed.
class SlowCallDetector {
public:
  void add(SlowCallListener *watched, const CallWord &calls) {
    std::lock_guard lock(mutex_);
    entries_.push_back({watched, &calls, 0});
    if (!started_)
      started_ = host::start_thread(&SlowCallDetector::thread_main,
                                    this); // without it, calls just run inline
  }

  void remove(SlowCallListener *watched) {
    std::lock_guard lock(mutex_);
    entries_.erase(std::find_if(entries_.begin(), entries_.end(), [watched](const Entry &entry) {
      return entry.watched == watched;
    }));
  }

  // A call begins.
  void notice() {
    // Sequentially consistent, as the store of the call before it and the detector's two
    // accesses in the other order: one of the two sees the other.
    if (asleep_.load())
      wake();
  }

private:
  static constexpr microseconds FAST_TICK{100};
  static constexpr microseconds SLOW_TICK{2000};
  static constexpr int FAST_TICKS = 500; // after the last slow call
  static constexpr int QUIET_TICKS = 10; // before going to sleep

  struct Entry {
    SlowCallListener *watched;
    const CallWord *calls;
    uint64_t seen_call;
  };

  static void *thread_main(void *detector) {
    pthread_setname_np(pthread_self(), "nbd-slow-calls");
    static_cast<SlowCallDetector *>(detector)->work();
    return nullptr;
  }

  void wake() {
    std::lock_guard lock(mutex_);
    if (asleep_.exchange(false))
      wake_.notify_one();
  }

  void work() {
    int fast_ticks_left = 0;
    int quiet_ticks = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      Scan scan = look();
      fast_ticks_left = scan.stuck ? FAST_TICKS : std::max(0, fast_ticks_left - 1);
      quiet_ticks = scan.busy ? 0 : quiet_ticks + 1;
      if (quiet_ticks < QUIET_TICKS) {
        // Nobody signals during a tick: this is a sleep that lets others have the lock.
        lock.unlock();
        timespec tick{0, (fast_ticks_left > 0 ? FAST_TICK : SLOW_TICK).count() * 1000};
        nanosleep(&tick, nullptr);
        lock.lock();
        continue;
      }
      asleep_.store(true);
      if (!look().busy) // a call may have begun before it could see that we sleep
        wake_.wait(lock, [this] { return !asleep_.load(); });
      asleep_.store(false);
      quiet_ticks = 0;
    }
  }

  struct Scan {
    bool busy = false;  // a call is in progress
    bool stuck = false; // and was already at the tick before
  };

  Scan look() {
    Scan scan;
    for (Entry &entry : entries_) {
      const uint64_t call = call_in(*entry.calls);
      if (call != 0 && call == entry.seen_call) {
        scan.stuck = true;
        entry.watched->on_slow_call(call);
      }
      // Calls begun and ended since the last tick are a reason to stay awake too.
      scan.busy = scan.busy || call != 0;
      entry.seen_call = call;
    }
    return scan;
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> asleep_{false};
  std::vector<Entry> entries_;
  bool started_ = false;
};

// Never destroyed: its thread outlives main's statics.
SlowCallDetector &slow_call_detector() {
  static auto *detector = new SlowCallDetector;
  return *detector;
}

} // namespace

LeaderToken::LeaderToken() : word_(CallWords::instance().take()) {}

LeaderToken::~LeaderToken() {
  CallWords::instance().put(word_);
}

uint64_t LeaderToken::begin_call() {
  uint64_t call = word_.load(std::memory_order_relaxed) + 1;
  word_.store(call); // sequentially consistent: see SlowCallDetector::notice
  slow_call_detector().notice();
  return call;
}

bool LeaderToken::end_call(uint64_t call) {
  // Release: what this thread did as leader comes before what the next one does.
  return word_.compare_exchange_strong(call, call + 1, std::memory_order_acq_rel);
}

uint64_t LeaderToken::current_call() const {
  return call_in(word_);
}

bool LeaderToken::take(uint64_t call) {
  return word_.compare_exchange_strong(call, call + 1, std::memory_order_acq_rel);
}

void watch(SlowCallListener *watched, const CallWord &calls) {
  slow_call_detector().add(watched, calls);
}

void unwatch(SlowCallListener *watched) {
  slow_call_detector().remove(watched);
}

} // namespace asyncnbd::connection
