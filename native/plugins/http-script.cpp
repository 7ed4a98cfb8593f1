// See http-script.hpp.
#include "http-script.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

extern char **environ;

namespace http {

namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds LONGEST_RUN{60};
constexpr size_t MAX_OUTPUT_BYTES = 65'536;

/// A process of a shell's, whose output comes by a pipe. It leads a process group, so that all that
/// it has started can be ended.
class Shell {
public:
  Shell(const std::string &command, const std::string &url, unsigned iteration) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) == -1)
      throw std::runtime_error(std::string("no pipe: ") + strerror(errno));
    output_ = ends[0];
    const int error =
        spawn(command, ends[1], {"url=" + url, "iteration=" + std::to_string(iteration)});
    close(ends[1]);
    if (error != 0) {
      close(output_);
      throw std::runtime_error(std::string("no shell: ") + strerror(error));
    }
  }
  ~Shell() {
    close(output_);
    if (process_ != 0) {
      kill(-process_, SIGKILL);
      wait();
    }
  }
  Shell(const Shell &) = delete;
  Shell &operator=(const Shell &) = delete;

  int output() const { return output_; }

  /// As waitpid has it.
  int wait() {
    int status = 0;
    while (waitpid(process_, &status, 0) == -1 && errno == EINTR)
      continue;
    process_ = 0;
    return status;
  }

private:
  int spawn(const std::string &command, int output, const std::vector<std::string> &variables) {
    std::vector<char *> environment;
    for (char **one = environ; *one != nullptr; one++)
      environment.push_back(*one);
    for (const std::string &variable : variables) // of two of one name, a shell takes the last
      environment.push_back(const_cast<char *>(variable.c_str()));
    environment.push_back(nullptr);
    const char *const words[] = {"sh", "-c", command.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
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

std::string read_all(int fd) {
  const steady_clock::time_point until = steady_clock::now() + LONGEST_RUN;
  std::string text;
  std::array<char, 4096> piece;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - steady_clock::now()).count();
    pollfd event{fd, POLLIN, 0};
    if (left <= 0 || poll(&event, 1, static_cast<int>(left)) == 0)
      throw std::runtime_error("it has not ended within 60 s");
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

} // namespace

std::string run_script(const std::string &command, const std::string &url, unsigned iteration) {
  Shell shell(command, url, iteration);
  std::string text = read_all(shell.output());
  const int status = shell.wait();
  if (WIFSIGNALED(status))
    throw std::runtime_error("signal " + std::to_string(WTERMSIG(status)) + " has ended it");
  if (WEXITSTATUS(status) != 0)
    throw std::runtime_error("its status is " + std::to_string(WEXITSTATUS(status)));
  return text;
}

// ---- again and again ----------------------------------------------------------------------------

Repetition::Repetition(std::chrono::seconds interval, std::function<void()> work)
    : interval_(interval), work_(std::move(work)) {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&changed_, &attributes);
  pthread_condattr_destroy(&attributes);
  thread_ = std::thread([this] { run(); });
}

Repetition::~Repetition() {
  {
    std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  pthread_cond_signal(&changed_);
  thread_.join();
  pthread_cond_destroy(&changed_);
}

void Repetition::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    timespec until{};
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += interval_.count();
    int result = 0;
    while (!is_over_ && result != ETIMEDOUT)
      result = pthread_cond_timedwait(&changed_, mutex_.native_handle(), &until);
    if (is_over_)
      return;
    lock.unlock();
    work_();
    lock.lock();
  }
}

} // namespace http
