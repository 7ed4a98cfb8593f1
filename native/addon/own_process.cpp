// See own_process.hpp.
#include "addon/own_process.hpp"

#include <csignal>
#include <fcntl.h>
#include <mutex>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <vector>

#include "transport/sigpipe.hpp"

namespace asyncnbd::addon {

namespace {

void stay_open_at_exec(int fd) {
  const int flags = fcntl(fd, F_GETFD);
  if (flags != -1)
    fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
}

// If a user sets our variables by hand, Node's own descriptors must not be closed.
bool is_null_device(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

// Node ignores some signals, and ignored signals stay ignored at exec. A handler that does nothing
// protects this process just as well, and exec resets it to the default.
void handle_without_effect(int signal) {
  struct sigaction action {};
  if (sigaction(signal, nullptr, &action) != 0 || action.sa_handler != SIG_IGN)
    return;
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  sigaction(signal, &action, nullptr);
}

// Node needs the signals of its children's ends and of processor faults.
bool is_for_node(int signal) {
  return signal == SIGCHLD || signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE ||
         signal == SIGILL || signal == SIGTRAP || signal == SIGABRT;
}

std::vector<int> numbers(Napi::Object object, const char *key) {
  Napi::Array array = object.Get(key).As<Napi::Array>();
  std::vector<int> result;
  for (uint32_t i = 0; i < array.Length(); i++)
    result.push_back(array.Get(i).As<Napi::Number>());
  return result;
}

} // namespace

void share_with_children() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
      stay_open_at_exec(fd);
    handle_without_effect(SIGPIPE);
    handle_without_effect(SIGXFSZ);
  });
}

void own_process(const Napi::CallbackInfo &info) {
  Napi::Object inheritance = info[0].As<Napi::Object>();
  share_with_children();
  transport::sigpipe_is_handled();
  for (int fd : numbers(inheritance, "inheritedFds"))
    stay_open_at_exec(fd);
  for (int fd : numbers(inheritance, "reservedFds"))
    if (is_null_device(fd))
      ::close(fd);
  signal(SIGUSR1, SIG_DFL); // Node would open its inspector on a port
  for (int number : numbers(inheritance, "ignoredSignals"))
    if (!is_for_node(number))
      signal(number, SIG_IGN);
}

void name_process(const Napi::CallbackInfo &info) {
  prctl(PR_SET_NAME, info[0].As<Napi::String>().Utf8Value().c_str());
}

} // namespace asyncnbd::addon
