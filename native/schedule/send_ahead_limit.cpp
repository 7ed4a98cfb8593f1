// See send_ahead_limit.hpp.
#include "schedule/send_ahead_limit.hpp"

#include <chrono>
#include <sched.h>
#include <utility>

namespace asyncnbd::schedule {

namespace {

// A client that does not read at all must not delay us for longer. Where other threads want the
// core, each yield may take some milliseconds.
constexpr std::chrono::microseconds MAX_DELAY{30};
constexpr std::chrono::microseconds LONG_YIELD{1000};
constexpr unsigned SKIPS = 16;

} // namespace

void SendAheadLimit::sent(std::weak_ptr<const Receiver> client, size_t bytes) {
  bytes_ += bytes;
  if (bytes_ < STEP_BYTES)
    return;
  bytes_ = 0;
  if (skips_ > 0) {
    skips_--;
    return;
  }
  std::swap(marks_[oldest_], client);
  oldest_ = (oldest_ + 1) % MARKS;
  const std::shared_ptr<const Receiver> reader = client.lock();
  if (!reader || reader->unread_bytes() == 0)
    return;
  const base::Time deadline = clock_.now() + MAX_DELAY;
  base::Time now;
  do {
    sched_yield();
    now = clock_.now();
  } while (reader->unread_bytes() > 0 && now < deadline);
  // Other threads had the core for long, and the client still has not read.
  if (now - deadline > LONG_YIELD && reader->unread_bytes() > 0)
    skips_ = SKIPS;
}

} // namespace asyncnbd::schedule
