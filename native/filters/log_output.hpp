// Writes the log filter's lines to a file, and runs a script for each. log_queue.hpp chooses the
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/mutex.hpp"
#include "filters/shell.hpp"

namespace asyncnbd::filters {

// One event: a call, its return, or something that takes no time.
struct LogEvent {
  enum class Kind : uint8_t { enter, leave, print };
  Kind kind;
  const char *action;      // "Read"
  uint64_t connection = 0; // 0: none
  uint64_t id = 0;         // 0: none
  std::string text;        // "offset=0x0 count=0x200"
};

// Writes nbdkit's format. Any thread that may block.
class LogOutput {
public:
  // Either may be "" for none. nullptr, with a message in `*error`, if the file cannot be opened.
  static std::unique_ptr<LogOutput> open(const std::string &file, bool appends,
                                         const std::string &script, std::string *error);
  ~LogOutput();
  LogOutput(const LogOutput &) = delete;
  LogOutput &operator=(const LogOutput &) = delete;

  bool is_active() const { return fd_ != -1 || has_script(); }
  bool has_script() const { return !script_.empty(); }
  // Whether writing may wait, for a script or for the reader of a pipe.
  bool is_slow() const { return has_script() || !is_regular_; }

  // When it returns, the line is written, and the script has ended. Returns an error message, or
  // "".
  std::string write(const LogEvent &event);

private:
  LogOutput(int fd, bool is_regular, std::string script)
      : fd_(fd), is_regular_(is_regular), script_(std::move(script)) {}

  void write_line(const LogEvent &event);
  std::string run_script(const LogEvent &event) const;

  const int fd_;          // -1: none
  const bool is_regular_; // true without a file
  const std::string script_;
  const ShellEnvironment environment_ = ShellEnvironment::copied(); // of the script
  base::Mutex<base::LockRank::log_lines> mutex_;                    // around each line
};

} // namespace asyncnbd::filters
