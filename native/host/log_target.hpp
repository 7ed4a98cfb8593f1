// Where the lines of one server go in place of the process's log.
#pragma once

#include <memory>
#include <string>

#include "base/log_sink.hpp"

namespace asyncnbd::host {

// Any thread, which may hold any lock.
class LogTarget : public std::enable_shared_from_this<LogTarget> {
public:
  virtual ~LogTarget() = default;
  virtual void write(base::LogLevel level, const std::string &text) = 0;
};

// Of the calling thread, where the context of its call knows no server: nullptr: the process's log.
// Returns what it was before.
LogTarget *exchange_thread_log(LogTarget *target);

} // namespace asyncnbd::host
