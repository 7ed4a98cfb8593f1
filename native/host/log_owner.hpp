// Whose lines those are that a thread logs outside of all calls of the server: threads that plugins
// and filters have started themselves.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "host/log_target.hpp"

namespace asyncnbd::host {

// Where a loaded file lies, until its end.
struct CodeRange {
  uintptr_t from = 0;
  uintptr_t to = 0;
};

// From its beginning to its end, what this code says goes to `log`; nullptr: to the process's log.
// An empty range: a server's, to which lines go whose code nobody has. Thread-safe.
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
  const std::weak_ptr<LogTarget> log_; // which its server keeps
};

// Of what has this address, if all to whom it belongs have the same log; else that of the servers,
// if it is the same for all. nullptr: the process's.
std::shared_ptr<LogTarget> log_of_code(const void *address);

// Where the file lies of which dlopen has given `handle`; empty if the loader does not tell.
CodeRange code_of(void *handle);

} // namespace asyncnbd::host
