// Where leaders mark that they are in a call, for the slow call detector to look at.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/mutex.hpp"

namespace asyncnbd::schedule {

// Odd while a call is in progress, and then the call's number. The store at its begin pairs with
// the detector's sleep (SlowCallDetector::notice), the one at its end with LeaderToken::take.
using CallWord = std::atomic<uint64_t>;

inline uint64_t call_in(const CallWord &word) {
  const uint64_t value = word.load();
  return (value & 1) != 0 ? value : 0;
}

// The words of all leader tokens, side by side in memory, so that the detector reads a thousand of
// them quickly. Each has a cache line of its own, as different threads write them. Any thread.
class CallWords {
public:
  CallWord &take();
  // Its next owner's calls have other numbers.
  void put(CallWord &word);

private:
  static constexpr size_t CHUNK = 64;
  struct alignas(64) Line {
    CallWord word{2};
  };

  base::Mutex<base::LockRank::call_words> mutex_;
  std::vector<std::unique_ptr<Line[]>> chunks_;
  std::vector<CallWord *> free_;
};

} // namespace asyncnbd::schedule
