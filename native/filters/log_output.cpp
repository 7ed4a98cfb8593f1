// See log_output.hpp.
#include "filters/log_output.hpp"

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error_numbers.hpp"
#include "host/log_text.hpp"

namespace asyncnbd::filters {

namespace {

// The present time in UTC, as in "2026-08-06 02:07:23.080415".
std::string timestamp() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  std::array<char, 32> day{};
  strftime(day.data(), day.size(), "%F %T", &parts);
  std::array<char, 64> text{};
  snprintf(text.data(), text.size(), "%s.%06ld", day.data(), now.tv_nsec / 1000);
  return text.data();
}

const char *word_of(LogEvent::Kind kind) {
  switch (kind) {
  case LogEvent::Kind::enter:
    return "ENTER";
  case LogEvent::Kind::leave:
    return "LEAVE";
  default:
    return "PRINT";
  }
}

} // namespace

std::unique_ptr<LogOutput> LogOutput::open(const std::string &file, bool appends,
                                           const std::string &script, std::string *error) {
  int fd = -1;
  if (!file.empty()) {
    // Appending, since others may write to the file, or truncate it.
    fd = ::open(file.c_str(), O_CLOEXEC | O_WRONLY | O_CREAT | O_APPEND | (appends ? 0 : O_TRUNC),
                0666);
    if (fd == -1) {
      *error = "logfile=" + file + ": cannot open the file: " + base::error_text(errno);
      return nullptr;
    }
  }
  struct stat status {};
  const bool is_regular = fd == -1 || (fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
  return std::unique_ptr<LogOutput>(new LogOutput(fd, is_regular, script));
}

LogOutput::~LogOutput() {
  if (fd_ != -1)
    ::close(fd_);
}

std::string LogOutput::write(const LogEvent &event) {
  if (fd_ != -1)
    write_line(event);
  return has_script() ? run_script(event) : std::string();
}

void LogOutput::write_line(const LogEvent &event) {
  std::string line = timestamp();
  if (event.connection != 0)
    line += " connection=" + std::to_string(event.connection);
  line += event.kind == LogEvent::Kind::leave ? " ..." : " ";
  line += event.action;
  if (event.id != 0)
    line += " id=" + std::to_string(event.id);
  if (!event.text.empty())
    line.append(" ").append(host::escaped(event.text)); // a client's text must not look like a line
  line += event.kind == LogEvent::Kind::enter ? " ...\n" : "\n";
  std::lock_guard lock(mutex_);
  for (std::string_view left = line; !left.empty();) {
    const ssize_t written = ::write(fd_, left.data(), left.size());
    if (written == -1 && errno != EINTR)
      return; // a full disk must not fail a request
    left.remove_prefix(written == -1 ? 0 : static_cast<size_t>(written));
  }
}

std::string LogOutput::run_script(const LogEvent &event) const {
  std::string commands = std::string("act=") + event.action + "\n";
  if (event.connection != 0)
    commands += "connection=" + std::to_string(event.connection) + "\n";
  commands += std::string("type=") + word_of(event.kind) + "\n";
  if (event.id != 0)
    commands += "id=" + std::to_string(event.id) + "\n";
  commands += event.text + "\n" + script_;
  std::string failure;
  const int status = run_shell(Shell::bash_if_any, commands, environment_, &failure);
  if (status == -1)
    return "logscript: " + failure;
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
    return "logscript: command failed with exit code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status))
    return "logscript: command was killed by signal " + std::to_string(WTERMSIG(status));
  return {};
}

} // namespace asyncnbd::filters
