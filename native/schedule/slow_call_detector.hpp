// Notices slow calls: at each tick, its thread looks whether the call that was in progress at the
// tick before still is.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/mutex.hpp"
#include "base/threads.hpp"
#include "schedule/call_words.hpp"

namespace asyncnbd::schedule {

// Is told of its slow calls, so that another thread can take over the caller's other work.
class SlowCallListener {
public:
  virtual ~SlowCallListener() = default;
  // The call has lasted one tick at least, and is reported again at each tick as long as it lasts.
  // Returns whether calls of this kind had better be noticed early, so that ticks should be short.
  // On the detector's thread, with its lock held; must neither block nor call the detector.
  virtual bool on_slow_call(uint64_t call) = 0;
};

// Ticks are short while calls turn out slow and long while all are quick; without calls it sleeps.
// Never destroyed: its thread does not end. All functions: any thread, unless their comments say
// otherwise.
class SlowCallDetector {
public:
  explicit SlowCallDetector(base::Threads &threads) : threads_(threads) {}
  SlowCallDetector(const SlowCallDetector &) = delete;
  SlowCallDetector &operator=(const SlowCallDetector &) = delete;

  CallWords &words() { return words_; }

  // Looks at `calls` from now on. If the system gives no thread, it tries again at the next add;
  // until then nothing is noticed.
  void add(SlowCallListener *listener, const CallWord &calls);
  // When it returns, the detector does not touch it any more.
  void remove(SlowCallListener *listener);

  // A call begins.
  void notice() {
    // Sequentially consistent, as are the store of the call before this and the detector's same two
    // accesses in the opposite order: one of the two sees the other.
    if (asleep_.load())
      wake();
  }

  // Looks once, and returns how long to wait before the next time. By the detector's thread, or by
  // a simulation, whose Threads do not run what they are given.
  enum class Pause { fast, slow, until_notice };
  Pause tick();

  static constexpr std::chrono::microseconds FAST_TICK{100};
  static constexpr std::chrono::microseconds SLOW_TICK{2000};
  static constexpr int FAST_TICKS = 500; // after the last slow call
  static constexpr int QUIET_TICKS = 10; // before going to sleep

private:
  struct Entry {
    SlowCallListener *listener;
    const CallWord *calls;
    uint64_t seen_call;
  };
  struct Scan {
    bool is_busy = false; // a call is in progress
    bool is_slow = false; // and was already at the tick before, and others like it may come
  };

  void wake();
  void work();
  Scan look();
  Pause look_and_decide();

  base::Threads &threads_;
  CallWords words_;
  std::atomic<bool> asleep_{false};               // pairs with the words of calls: see notice
  base::Mutex<base::LockRank::slow_calls> mutex_; // guards the rest
  base::Condition wake_;
  std::vector<Entry> entries_;
  int fast_ticks_left_ = 0;
  int quiet_ticks_ = 0;
  bool started_ = false;
};

} // namespace asyncnbd::schedule
