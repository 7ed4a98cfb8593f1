// See call_words.hpp.
#include "schedule/call_words.hpp"

namespace asyncnbd::schedule {

CallWord &CallWords::take() {
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

void CallWords::put(CallWord &word) {
  std::lock_guard lock(mutex_);
  free_.push_back(&word);
}

} // namespace asyncnbd::schedule
