// Keeps a thread that serves many clients of this machine from getting far ahead of them: replies
// that wait in sockets fall out of the cache, which then costs both sides more than the work.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "base/clock.hpp"

namespace asyncnbd::schedule {

// A client that reads replies.
class Receiver {
public:
  virtual ~Receiver() = default;
  // Sent to it and not yet read; 0 if the client is not on this machine, or has gone. Any thread.
  virtual size_t unread_bytes() const = 0;
};

// One per thread.
class SendAheadLimit {
public:
  explicit SendAheadLimit(const base::Clock &clock) : clock_(clock) {}

  // `bytes` of replies have been sent to the client. Lets other threads run for a moment, if the
  // client of some replies ago has not read them yet.
  void sent(std::weak_ptr<const Receiver> client, size_t bytes);

private:
  // With MARKS, what two threads send ahead stays in a cache of one MiB.
  static constexpr size_t STEP_BYTES = 96 << 10;
  static constexpr size_t MARKS = 4;

  const base::Clock &clock_;
  size_t bytes_ = 0; // since the last mark
  std::array<std::weak_ptr<const Receiver>, MARKS> marks_;
  size_t oldest_ = 0;
  unsigned skips_ = 0; // marks at which it does not wait, because it has waited in vain
};

} // namespace asyncnbd::schedule
