// See exit_events.hpp.
#include "filters/exit_events.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "base/error_numbers.hpp"
#include "base/high_fd.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

constexpr int HAS_HAPPENED = 88; // the exit status of a script

bool is_there(const std::string &path) {
  return access(path.c_str(), R_OK) == 0;
}

bool is_deleted(const std::string &path) {
  if (is_there(path))
    return false;
  if (errno == ENOENT || errno == ENOTDIR)
    return true;
  host::log_error("exit-when-file-deleted=%s: cannot check whether it exists: %s", path.c_str(),
                  base::error_text(errno).c_str());
  return false;
}

// Does not read from it.
bool is_closed(int pipe) {
  pollfd polled{pipe, 0, 0};
  if (poll(&polled, 1, 0) == -1 && errno != EINTR)
    host::log_error("exit-when-pipe-closed=%d: cannot check the pipe: %s", pipe,
                    base::error_text(errno).c_str());
  return (polled.revents & (POLLHUP | POLLNVAL)) != 0;
}

bool has_exited(int process) {
  char byte;
  if (pread(process, &byte, 1, 0) != -1 || errno == EINTR)
    return false;
  if (errno == ESRCH)
    return true;
  host::log_error("exit-when-process-exits: cannot inspect the process: %s",
                  base::error_text(errno).c_str());
  return false;
}

bool says_so(const std::string &script, const ShellEnvironment &environment) {
  std::string failure;
  const int status = run_shell(Shell::standard, script, environment, &failure);
  if (status == -1)
    host::log_error("exit-when-script: %s", failure.c_str());
  else if (WIFSIGNALED(status))
    host::log_error("exit-when-script: it was killed by signal %d", WTERMSIG(status));
  else if (WIFEXITED(status) && WEXITSTATUS(status) == HAS_HAPPENED)
    return true;
  else if (WEXITSTATUS(status) != 0)
    host::log_error("exit-when-script: it exited with %d: use 0 to go on, or %d to end the server",
                    WEXITSTATUS(status), HAS_HAPPENED);
  return false;
}

} // namespace

std::unique_ptr<ExitEvents> ExitEvents::open(ExitEventNames names, std::string *error) {
  std::unique_ptr<ExitEvents> events(new ExitEvents(std::move(names)));
  if (!events->open_processes(error) || !events->take_pipes(error))
    return nullptr;
  return events;
}

bool ExitEvents::open_processes(std::string *error) {
  for (const std::string &number : names_.processes_exit) {
    const std::string path = "/proc/" + number + "/stat";
    const int process = base::moved_high(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (process == -1) {
      *error = "exit-when-process-exits=" + number +
               ": cannot inspect this process: " + base::error_text(errno);
      return false;
    }
    processes_.push_back(process);
  }
  return true;
}

bool ExitEvents::take_pipes(std::string *error) {
  for (const std::string &number : names_.pipes_closed) {
    const int pipe = std::atoi(number.c_str());
    if (fcntl(pipe, F_GETFD) == -1) {
      *error = "exit-when-pipe-closed=";
      error->append(number).append(": the server has no such descriptor: give it one, as in ");
      error->append(number).append("<PIPE");
      return false;
    }
    pipes_.push_back(pipe);
  }
  return true;
}

ExitEvents::~ExitEvents() {
  for (const int process : processes_)
    ::close(process);
}

std::string ExitEvents::what_has_happened() const {
  for (const std::string &path : names_.files_created)
    if (is_there(path))
      return path + " has been created";
  for (const std::string &path : names_.files_deleted)
    if (is_deleted(path))
      return path + " has been deleted";
  for (size_t i = 0; i < pipes_.size(); i++)
    if (is_closed(pipes_[i]))
      return "descriptor " + names_.pipes_closed[i] + " is closed at its other end";
  for (size_t i = 0; i < processes_.size(); i++)
    if (has_exited(processes_[i]))
      return "process " + names_.processes_exit[i] + " has exited";
  for (const std::string &script : names_.scripts)
    if (says_so(script, environment_))
      return "a script has exited with " + std::to_string(HAS_HAPPENED);
  return {};
}

} // namespace asyncnbd::filters
