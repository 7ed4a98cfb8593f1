// Where lines of the log go: to standard error, to a file or to the system's log.
#pragma once

#include <atomic>
#include <string>
#include <unistd.h>

namespace asyncnbd::base {

enum class LogSink { standard_error, syslog, none, file };

enum class LogLevel { error, warning, info, debug };

// Any thread may write. Settings change while others write: such a line goes the old way or the
// new.
class LogWriter {
public:
  LogWriter() = default;
  LogWriter(const LogWriter &) = delete;
  LogWriter &operator=(const LogWriter &) = delete;

  // `program`: what lines begin with; it is not to change once there are other threads. Standard
  // error is where it is now.
  void configure(const std::string &program, LogSink sink);
  // Opens what LogSink::file appends to; 0 or an errno.
  int open_file(const std::string &path);
  // Lines go on to where standard error is now, whatever happens to it, until configure.
  void keep_stderr();

  LogSink sink() const { return sink_.load(std::memory_order_relaxed); }
  int file_fd() const { return file_fd_.load(std::memory_order_relaxed); }

  // One line, "PROGRAM: WHOSE LEVEL: TEXT", at once. Debug lines always go to standard error.
  void write(LogLevel level, const std::string &whose, const std::string &text);

private:
  void write_line(int fd, LogLevel level, const std::string &whose, const std::string &text) const;

  std::string program_ = "asyncnbd";
  // Settings: they pair with nothing.
  std::atomic<LogSink> sink_{LogSink::standard_error};
  std::atomic<int> lines_fd_{STDERR_FILENO};
  std::atomic<int> file_fd_{-1};
};

} // namespace asyncnbd::base
