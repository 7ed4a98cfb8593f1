// Keeps SIGPIPE from ending the process where a system call knows no MSG_NOSIGNAL.
#pragma once

#include <csignal>
#include <sys/types.h>

namespace asyncnbd::transport {

// For a process of our own, whose handler remains: there is nothing to guard against. Before there
// are other threads.
void sigpipe_is_handled();

// While it lives, the signal is held back from this thread. It costs two system calls, so it is for
// large pieces.
class SigpipeGuard {
public:
  SigpipeGuard();
  ~SigpipeGuard();
  SigpipeGuard(const SigpipeGuard &) = delete;
  SigpipeGuard &operator=(const SigpipeGuard &) = delete;

  // What the guarded call has returned: a number of bytes, or a negative errno.
  ssize_t saw(ssize_t result);

private:
  bool is_guarding_ = false;
  bool has_raised_ = false;
  sigset_t before_;
};

} // namespace asyncnbd::transport
