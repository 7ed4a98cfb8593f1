// Which thread leads: of those that work for one client, the one that reads its requests.
#pragma once

#include <cstdint>

#include "schedule/call_words.hpp"

namespace asyncnbd::schedule {

class SlowCallDetector;

// The leader marks its calls into a plugin. While a call lasts, another thread may take the token:
// then that one leads, and the first finds out when its call ends. Between calls the token cannot
// be taken.
class LeaderToken {
public:
  explicit LeaderToken(SlowCallDetector &detector);
  ~LeaderToken();
  LeaderToken(const LeaderToken &) = delete;
  LeaderToken &operator=(const LeaderToken &) = delete;

  // Leader only. Returns the call's number for end_call.
  uint64_t begin_call();
  // False: the token was taken meanwhile.
  bool end_call(uint64_t call);

  // The call in progress, 0 if there is none.
  uint64_t current_call() const { return call_in(word_); }
  // Any thread, for a call seen by current_call. True: the caller leads now.
  bool take(uint64_t call);

  const CallWord &word() const { return word_; }

private:
  SlowCallDetector &detector_;
  CallWord &word_; // of the detector's CallWords
};

} // namespace asyncnbd::schedule
