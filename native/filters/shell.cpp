// See shell.hpp.
#include "filters/shell.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <spawn.h>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error_numbers.hpp"
#include "base/high_fd.hpp"

namespace asyncnbd::filters {

namespace {

// `output`: its standard output; -1: ours. Returns 0 or an errno.
int spawn(Shell shell, const std::string &commands, const ShellEnvironment &environment, int output,
          pid_t *pid) {
  const char *const arguments[] = {"sh", "-c", commands.c_str(), nullptr};
  const std::vector<char *> variables = environment.pointers();
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none; // signals that this thread blocks must not be blocked there
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (output != -1)
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  int error = ENOENT;
  if (shell == Shell::bash_if_any)
    error = posix_spawn(pid, "/bin/bash", &actions, &attributes,
                        const_cast<char *const *>(arguments), variables.data());
  if (error == ENOENT)
    error = posix_spawn(pid, "/bin/sh", &actions, &attributes, const_cast<char *const *>(arguments),
                        variables.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return error;
}

int status_of(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) == -1)
    if (errno != EINTR)
      return -1;
  return status;
}

void read_up_to(int fd, size_t most_bytes, std::string *output) {
  std::array<char, 4096> part{};
  while (most_bytes > 0) {
    const ssize_t got = ::read(fd, part.data(), std::min(part.size(), most_bytes));
    if (got == 0 || (got == -1 && errno != EINTR))
      return;
    if (got > 0) {
      output->append(part.data(), static_cast<size_t>(got));
      most_bytes -= static_cast<size_t>(got);
    }
  }
}

std::string not_started(int error) {
  return "cannot start the shell: " + base::error_text(error);
}

} // namespace

ShellEnvironment ShellEnvironment::copied() {
  // Who starts the server anew may speak for it to the service manager; a script may not.
  constexpr std::string_view OURS_ALONE = "ASYNCNBD_NOTIFY_SOCKET=";
  ShellEnvironment copy;
  for (char **one = environ; one != nullptr && *one != nullptr; one++)
    if (!std::string_view(*one).starts_with(OURS_ALONE))
      copy.variables_.emplace_back(*one);
  return copy;
}

std::vector<char *> ShellEnvironment::pointers() const {
  std::vector<char *> pointers;
  pointers.reserve(variables_.size() + 1);
  for (const std::string &variable : variables_)
    pointers.push_back(const_cast<char *>(variable.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

int run_shell(Shell shell, const std::string &commands, const ShellEnvironment &environment,
              std::string *failure) {
  pid_t pid = -1;
  const int error = spawn(shell, commands, environment, -1, &pid);
  if (error == 0)
    return status_of(pid);
  *failure = not_started(error);
  return -1;
}

int run_shell(Shell shell, const std::string &commands, const ShellEnvironment &environment,
              size_t most_bytes, std::string *output, std::string *failure) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) == -1) {
    *failure = not_started(errno);
    return -1;
  }
  const int reading = base::moved_high(ends[0]);
  const int writing = base::moved_high(ends[1]);
  pid_t pid = -1;
  const int error =
      reading == -1 || writing == -1 ? EMFILE : spawn(shell, commands, environment, writing, &pid);
  ::close(writing);
  if (error == 0)
    read_up_to(reading, most_bytes, output);
  ::close(reading);
  if (error == 0)
    return status_of(pid);
  *failure = not_started(error);
  return -1;
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
