// See log_sink.hpp.
#include "base/log_sink.hpp"

#include <cerrno>
#include <fcntl.h>
#include <syslog.h>

#include "base/high_fd.hpp"

namespace asyncnbd::base {

namespace {

struct Level {
  const char *name;
  int syslog_priority;
};

Level level_of(LogLevel level) {
  switch (level) {
  case LogLevel::error:
    return {"error", LOG_ERR};
  case LogLevel::warning:
    return {"warning", LOG_WARNING};
  case LogLevel::info:
    return {"info", LOG_INFO};
  case LogLevel::debug:
    break;
  }
  return {"debug", LOG_DEBUG};
}

} // namespace

void LogWriter::configure(const std::string &program, LogSink sink) {
  if (program_ != program)
    program_ = program;
  sink_.store(sink, std::memory_order_relaxed);
  // The number is not given back, as another thread may be about to write to it.
  if (const int kept = lines_fd_.exchange(STDERR_FILENO); kept != STDERR_FILENO)
    dup3(STDERR_FILENO, kept, O_CLOEXEC);
  if (sink == LogSink::syslog)
    openlog(program_.c_str(), LOG_PID, LOG_DAEMON);
}

int LogWriter::open_file(const std::string &path) {
  const int kept =
      moved_high(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666));
  if (kept == -1)
    return errno;
  file_fd_.store(kept);
  return 0;
}

void LogWriter::keep_stderr() {
  if (const int kept = high_copy(STDERR_FILENO); kept != -1)
    lines_fd_.store(kept);
}

void LogWriter::write_line(int fd, LogLevel level, const std::string &whose,
                           const std::string &text) const {
  const std::string line = program_ + ": " + whose + level_of(level).name + ": " + text + "\n";
  // One write, so that lines of several threads do not mix. There is nowhere to report a failure.
  (void)!::write(fd, line.data(), line.size());
}

void LogWriter::write(LogLevel level, const std::string &whose, const std::string &text) {
  const LogSink sink = level == LogLevel::debug ? LogSink::standard_error : this->sink();
  switch (sink) {
  case LogSink::standard_error:
    write_line(lines_fd_.load(std::memory_order_relaxed), level, whose, text);
    break;
  case LogSink::file:
    write_line(file_fd(), level, whose, text);
    break;
  case LogSink::syslog:
    syslog(LOG_DAEMON | level_of(level).syslog_priority, "%s%s", whose.c_str(), text.c_str());
    break;
  case LogSink::none:
    break;
  }
}

} // namespace asyncnbd::base
