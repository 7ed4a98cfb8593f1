// Where lines go that are logged outside of clients' calls, on threads of ours and JavaScript's.
#pragma once

#include <memory>

#include "host/log_target.hpp"

namespace asyncnbd::host {

// Where the calling thread logs now.
std::shared_ptr<LogTarget> current_log();

// Lines of this thread go there, outside of clients' calls, until the scope ends. For work that is
// done for one server on a thread of ours.
class LogScope {
public:
  explicit LogScope(std::shared_ptr<LogTarget> log);
  ~LogScope();
  LogScope(const LogScope &) = delete;
  LogScope &operator=(const LogScope &) = delete;

private:
  const std::shared_ptr<LogTarget> log_;
  LogTarget *const previous_;
  const bool was_known_;
};

// The calling thread is JavaScript's, which says whose its lines are: see exchange_thread_log.
void know_thread_log();

} // namespace asyncnbd::host
