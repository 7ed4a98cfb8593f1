// See leader_token.hpp.
#include "schedule/leader_token.hpp"

#include "base/invariant.hpp"
#include "schedule/slow_call_detector.hpp"

namespace asyncnbd::schedule {

LeaderToken::LeaderToken(SlowCallDetector &detector)
    : detector_(detector), word_(detector.words().take()) {}

LeaderToken::~LeaderToken() {
  detector_.words().put(word_);
}

uint64_t LeaderToken::begin_call() {
  const uint64_t call = word_.load(std::memory_order_relaxed) + 1;
  base::invariant((call & 1) != 0, "a leader's call begins when its last one has ended");
  word_.store(call); // sequentially consistent: see SlowCallDetector::notice
  detector_.notice();
  return call;
}

// Release: the next leader, whose acquire is in take, sees what this thread did as leader. Acquire:
// if this thread still leads, or leads again later, it sees what others did.
bool LeaderToken::end_call(uint64_t call) {
  return word_.compare_exchange_strong(call, call + 1, std::memory_order_acq_rel);
}

bool LeaderToken::take(uint64_t call) {
  return word_.compare_exchange_strong(call, call + 1, std::memory_order_acq_rel);
}

} // namespace asyncnbd::schedule
