// Finds the log for lines of threads that plugins and filters have started themselves, outside of
// all calls of the server.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "host/log_target.hpp"

namespace asyncnbd::host {

// The addresses of a loaded file.
struct CodeRange {
  uintptr_t from = 0;
  uintptr_t to = 0;
};

// While this object exists, lines from this code go to `log`; nullptr: to the process's log. With
// an empty range it stands for a server, which gets lines from unknown code. Thread-safe.
class LogOwner {
public:
  LogOwner(CodeRange code, const std::shared_ptr<LogTarget> &log);
  ~LogOwner();
  LogOwner(const LogOwner &) = delete;
  LogOwner &operator=(const LogOwner &) = delete;

private:
  friend std::shared_ptr<LogTarget> log_of_code(const void *address);

  const CodeRange code_;
  const bool has_log_;
  const std::weak_ptr<LogTarget> log_; // the server keeps it alive
};

// The log of the code at this address, if all its owners have the same; otherwise the servers' log,
// if all have the same. nullptr: the process's.
std::shared_ptr<LogTarget> log_of_code(const void *address);

// The addresses of the file that dlopen has returned as `handle`; empty if the loader does not
// tell.
CodeRange code_of(void *handle);

} // namespace asyncnbd::host
