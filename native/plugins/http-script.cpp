// See http-script.hpp.
#include "http-script.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace http {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds LONGEST_RUN{60};
constexpr milliseconds LONGEST_EXIT_PAUSE{50}; // between looks whether it has ended
constexpr size_t MAX_OUTPUT_BYTES = 65'536;

/// A shell that runs a command, and a pipe with its output. It leads a process group, so that
/// everything it has started can be killed.
class Shell {
public:
  Shell(const std::string &command, const std::string &directory, const Environment &environment,
        const std::string &url, unsigned iteration) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) == -1)
      throw std::runtime_error(std::string("cannot make a pipe: ") + strerror(errno));
    output_ = ends[0];
    std::vector<std::string> variables = environment.variables();
    variables.push_back("url=" + url); // the last of a name counts
    variables.push_back("iteration=" + std::to_string(iteration));
    int error = spawn(command, directory.c_str(), ends[1], variables);
    // The server's new user may have no access there, which matters only for relative paths.
    if (error == EACCES || error == ENOENT)
      error = spawn(command, nullptr, ends[1], variables);
    close(ends[1]);
    if (error != 0) {
      close(output_);
      throw std::runtime_error(std::string("cannot start a shell: ") + strerror(error));
    }
  }
  ~Shell() {
    close(output_);
    if (process_ != 0) {
      kill(-process_, SIGKILL);
      while (waitpid(process_, nullptr, 0) == -1 && errno == EINTR)
        continue;
    }
  }
  Shell(const Shell &) = delete;
  Shell &operator=(const Shell &) = delete;

  int output() const { return output_; }

  /// The status, as waitpid gives it; nothing while the shell runs. Must not be called again once
  /// it has returned the status.
  std::optional<int> status() {
    int status = 0;
    if (waitpid(process_, &status, WNOHANG) == 0)
      return std::nullopt;
    process_ = 0;
    return status;
  }

private:
  int spawn(const std::string &command, const char *directory, int output,
            const std::vector<std::string> &variables) {
    std::vector<char *> environment;
    environment.reserve(variables.size() + 1);
    for (const std::string &variable : variables)
      environment.push_back(const_cast<char *>(variable.c_str()));
    environment.push_back(nullptr);
    const char *const words[] = {"sh", "-c", command.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (directory != nullptr)
      posix_spawn_file_actions_addchdir_np(&actions, directory);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    const int error = posix_spawn(&process_, "/bin/sh", &actions, &attributes,
                                  const_cast<char *const *>(words), environment.data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
  }

  pid_t process_ = 0;
  int output_ = -1;
};

/// The longest time that a script may run, and the descriptor that ends it before.
class Limit {
public:
  explicit Limit(int stop) : stop_(stop) {}

  /// Waits until `fd` can be read, but no longer than `most`, and returns whether it can; never
  /// for -1. Throws if the script must end.
  bool wait(int fd, milliseconds most) const {
    const auto left = std::chrono::duration_cast<milliseconds>(until_ - steady_clock::now());
    if (left.count() <= 0)
      throw std::runtime_error("it was killed, because it had not ended within 60 s");
    pollfd events[] = {{fd, POLLIN, 0}, {stop_, POLLIN, 0}}; // poll ignores a -1
    if (poll(events, 2, static_cast<int>(std::min(left, most).count())) <= 0)
      return false; // after a signal too: a read could block
    if (events[1].revents != 0)
      throw Stopped();
    return events[0].revents != 0;
  }

private:
  const int stop_;
  const steady_clock::time_point until_ = steady_clock::now() + LONGEST_RUN;
};

std::string read_all(int fd, const Limit &limit) {
  std::string text;
  std::array<char, 4096> piece;
  for (;;) {
    if (!limit.wait(fd, LONGEST_RUN))
      continue;
    const ssize_t count = read(fd, piece.data(), piece.size());
    if (count == 0)
      return text;
    if (count == -1 && errno != EINTR)
      throw std::runtime_error(std::string("cannot read what it prints: ") + strerror(errno));
    if (count > 0)
      text.append(piece.data(), static_cast<size_t>(count));
    if (text.size() > MAX_OUTPUT_BYTES)
      throw std::runtime_error("it prints more than 64 KiB");
  }
}

/// A script may close its output long before it ends.
int status_of(Shell &shell, const Limit &limit) {
  for (milliseconds pause{1};; pause = std::min(pause * 2, LONGEST_EXIT_PAUSE)) {
    if (const std::optional<int> status = shell.status())
      return *status;
    limit.wait(-1, pause);
  }
}

} // namespace

std::string run_script(const std::string &command, const std::string &directory,
                       const Environment &environment, const std::string &url, unsigned iteration,
                       int stop) {
  const Limit limit(stop);
  Shell shell(command, directory, environment, url, iteration);
  std::string text = read_all(shell.output(), limit);
  const int status = status_of(shell, limit);
  if (WIFSIGNALED(status))
    throw std::runtime_error("it was killed by signal " + std::to_string(WTERMSIG(status)));
  if (WEXITSTATUS(status) != 0)
    throw std::runtime_error("it failed with status " + std::to_string(WEXITSTATUS(status)));
  return text;
}

// ---- again and again ----------------------------------------------------------------------------

Repetition::Repetition(std::chrono::seconds interval, std::function<void(int stop)> work)
    : interval_(interval), work_(std::move(work)), stop_(eventfd(0, EFD_CLOEXEC)) {
  if (stop_ == -1)
    throw std::system_error(errno, std::generic_category(), "cannot make an eventfd");
  thread_ = std::thread([this] { run(); });
}

Repetition::~Repetition() {
  eventfd_write(stop_, 1);
  thread_.join();
  close(stop_);
}

void Repetition::run() {
  for (;;) {
    const steady_clock::time_point until = steady_clock::now() + interval_;
    for (;;) {
      const auto left = until - steady_clock::now();
      if (left.count() <= 0)
        break;
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
      const timespec time{seconds.count(), std::chrono::nanoseconds(left - seconds).count()};
      pollfd event{stop_, POLLIN, 0};
      if (ppoll(&event, 1, &time, nullptr) > 0)
        return;
    }
    try {
      work_(stop_);
    } catch (const Stopped &) {
      return;
    }
  }
}

} // namespace http
