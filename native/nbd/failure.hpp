// Why a connection has ended otherwise than by its client's wish.
#pragma once

#include <mutex>
#include <string>

#include "base/mutex.hpp"

namespace asyncnbd::nbd {

// The first reason is the one that counts. Any thread notes; it is read when all is closed.
class Failure {
public:
  // "it …", of the client.
  void note(const std::string &reason) {
    std::lock_guard lock(mutex_);
    if (reason_.empty())
      reason_ = reason;
  }
  // The client did not go on.
  void note_stall(const std::string &reason) {
    note(reason);
    std::lock_guard lock(mutex_);
    has_stalled_ = true;
  }

  // "": it has not failed.
  const std::string &reason() const { return reason_; }
  bool has_stalled() const { return has_stalled_; }

private:
  base::Mutex<base::LockRank::failure_reason> mutex_; // guards the rest
  std::string reason_;
  bool has_stalled_ = false;
};

} // namespace asyncnbd::nbd
