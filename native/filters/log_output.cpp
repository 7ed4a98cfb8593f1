// See log_output.hpp.
#include "filters/log_output.hpp"

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string_view>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error_numbers.hpp"
#include "host/log_text.hpp"

namespace asyncnbd::filters {

namespace {

// "2026-08-06 02:07:23.080415", of now, in universal time.
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

// The shell's exit status as waitpid has it; -1: it could not be started, and `*failure` says why.
int run_shell(const std::string &commands, std::string *failure) {
  const char *const arguments[] = {"sh", "-c", commands.c_str(), nullptr};
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none; // blocked: what this thread blocks is its own affair
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  // Bash where there is one, as with nbdkit: lists come as its arrays.
  pid_t pid = -1;
  int error = ENOENT;
  for (const char *shell : {"/bin/bash", "/bin/sh"})
    if (error == ENOENT)
      error = posix_spawn(&pid, shell, nullptr, &attributes, const_cast<char *const *>(arguments),
                          environ);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    *failure = "logscript: cannot start the shell: " + base::error_text(error);
    return -1;
  }
  int status = 0;
  while (waitpid(pid, &status, 0) == -1)
    if (errno != EINTR)
      return -1;
  return status;
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
    // Appending, since another may write to it, or cut it off.
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
    line.append(" ").append(host::escaped(event.text)); // lest a client's word look like a line
  line += event.kind == LogEvent::Kind::enter ? " ...\n" : "\n";
  std::lock_guard lock(mutex_);
  for (std::string_view left = line; !left.empty();) {
    const ssize_t written = ::write(fd_, left.data(), left.size());
    if (written == -1 && errno != EINTR)
      return; // a full disk is no reason to fail a request
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
  const int status = run_shell(commands, &failure);
  if (status == -1)
    return failure;
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
    return "logscript: command failed with exit code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status))
    return "logscript: command was killed by signal " + std::to_string(WTERMSIG(status));
  return {};
}

std::string shell_quoted(const std::string &text) {
  constexpr const char *SAFE =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_=,:/";
  if (!text.empty() && text.find_first_not_of(SAFE) == std::string::npos)
    return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '$' || c == '`' || c == '\\' || c == '"')
      quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

} // namespace asyncnbd::filters
