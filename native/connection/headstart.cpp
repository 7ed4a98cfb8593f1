// See headstart.hpp.
#include "connection/headstart.hpp"

#include <sched.h>
#include <utility>

namespace asyncnbd::connection {

namespace {

// A client that does not read at all must not keep us: this is 20 us if nobody else wants the core.
constexpr unsigned MAX_YIELDS = 64;

} // namespace

void Headstart::sent(std::weak_ptr<const ReplyReader> client, size_t bytes) {
  bytes_ += bytes;
  if (bytes_ < STEP_BYTES)
    return;
  bytes_ = 0;
  std::swap(marks_[oldest_], client);
  oldest_ = (oldest_ + 1) % MARKS;
  const std::shared_ptr<const ReplyReader> reader = client.lock();
  for (unsigned i = 0; reader && i < MAX_YIELDS && reader->unread_bytes() > 0; i++)
    sched_yield();
}

} // namespace asyncnbd::connection
