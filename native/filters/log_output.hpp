// Where the log filter's lines go: to a file, and to a script that is run for each.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/mutex.hpp"

namespace asyncnbd::filters {

// What happens in one moment: a call, its return, or something that takes no time.
struct LogEvent {
  enum class Kind : uint8_t { enter, leave, print };
  Kind kind;
  const char *action;      // "Read"
  uint64_t connection = 0; // 0: none
  uint64_t id = 0;         // 0: none
  std::string text;        // "offset=0x0 count=0x200"
};

// In nbdkit's format. Any thread.
class LogOutput {
public:
  // Either path may be "": there is none. nullptr, with words in `*error`, if the file cannot be
  // opened.
  static std::unique_ptr<LogOutput> open(const std::string &file, bool appends,
                                         const std::string &script, std::string *error);
  ~LogOutput();
  LogOutput(const LogOutput &) = delete;
  LogOutput &operator=(const LogOutput &) = delete;

  bool is_active() const { return fd_ != -1 || has_script(); }
  // Then writing waits for as long as the script runs.
  bool has_script() const { return !script_.empty(); }

  // At once: when it returns, the line is written, and the script has ended.
  void write(const LogEvent &event);

private:
  LogOutput(int fd, std::string script) : fd_(fd), script_(std::move(script)) {}

  void write_line(const LogEvent &event);
  void run_script(const LogEvent &event) const;

  const int fd_; // -1: none
  const std::string script_;
  base::Mutex<base::LockRank::log_lines> mutex_; // around each line
};

// As the shell reads it.
std::string shell_quoted(const std::string &text);

} // namespace asyncnbd::filters
