// Where the log filter's lines go: to a file, and to a script that is run for each. log_queue.hpp
// has who writes them.
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

// In nbdkit's format. Any thread that may block.
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
  bool has_script() const { return !script_.empty(); }
  // Whether writing waits for somebody: for a script, or for who reads a pipe.
  bool is_slow() const { return has_script() || !is_regular_; }

  // At once: when it returns, the line is written, and the script has ended. What has gone wrong
  // with that; "": nothing.
  std::string write(const LogEvent &event);

private:
  LogOutput(int fd, bool is_regular, std::string script)
      : fd_(fd), is_regular_(is_regular), script_(std::move(script)) {}

  void write_line(const LogEvent &event);
  std::string run_script(const LogEvent &event) const;

  const int fd_;          // -1: none
  const bool is_regular_; // or none
  const std::string script_;
  base::Mutex<base::LockRank::log_lines> mutex_; // around each line
};

} // namespace asyncnbd::filters
