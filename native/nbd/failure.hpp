// Why a connection has ended otherwise than by its client's wish.
#pragma once

#include <mutex>
#include <string>

#include "base/mutex.hpp"

namespace asyncnbd::nbd {

// What programs can tell apart, as TransmissionEnd of src/addon/session-types.ts names it.
namespace failure_kind {
constexpr const char *FAILED = "failed";
constexpr const char *STALLED = "stalled"; // the client did not go on
} // namespace failure_kind

// The first reason is the one that counts. Any thread notes; it is read when all is closed.
class Failure {
public:
  // "it …", of the client.
  void note(const std::string &reason, const char *kind = failure_kind::FAILED) {
    std::lock_guard lock(mutex_);
    if (kind_ != nullptr)
      return;
    reason_ = reason;
    kind_ = kind;
  }

  // nullptr: it has not failed.
  const char *kind() const { return kind_; }
  const std::string &reason() const { return reason_; }

private:
  base::Mutex<base::LockRank::failure_reason> mutex_; // guards the rest
  std::string reason_;
  const char *kind_ = nullptr;
};

} // namespace asyncnbd::nbd
