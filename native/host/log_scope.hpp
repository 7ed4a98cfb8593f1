// The destination of lines outside of clients' calls, on our own threads and JavaScript's.
#pragma once

#include <memory>

#include "host/log_target.hpp"

namespace asyncnbd::host {

// Where the calling thread logs at present.
std::shared_ptr<LogTarget> current_log();

// Until the scope ends, lines of this thread outside of clients' calls go there. For work for one
// server on a thread of ours.
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

// The calling thread is JavaScript's, which sets the destination of its lines: see
// exchange_thread_log.
void know_thread_log();

} // namespace asyncnbd::host
