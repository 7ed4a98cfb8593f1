// Gets the lines of one server in place of the process's log.
#pragma once

#include <memory>
#include <string>

#include "base/log_sink.hpp"

namespace asyncnbd::host {

// Called on any thread, which may hold any lock.
class LogTarget : public std::enable_shared_from_this<LogTarget> {
public:
  virtual ~LogTarget() = default;
  virtual void write(base::LogLevel level, const std::string &text) = 0;
};

// Sets the target of the calling thread for calls whose context has no server. nullptr: the
// process's log. Returns the previous one.
LogTarget *exchange_thread_log(LogTarget *target);

} // namespace asyncnbd::host
