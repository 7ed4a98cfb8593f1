// Keeps SIGPIPE from ending the process in system calls without MSG_NOSIGNAL.
#pragma once

#include <csignal>
#include <sys/types.h>

namespace asyncnbd::transport {

// For our own process, whose handler stays: no guard is needed. Call it before other threads exist.
void sigpipe_is_handled();

// While it exists, this thread does not get the signal. It costs two system calls, so use it for
// large pieces.
class SigpipeGuard {
public:
  SigpipeGuard();
  ~SigpipeGuard();
  SigpipeGuard(const SigpipeGuard &) = delete;
  SigpipeGuard &operator=(const SigpipeGuard &) = delete;

  // Takes and returns the result of the guarded call: a number of bytes, or a negative errno.
  ssize_t saw(ssize_t result);

private:
  bool is_guarding_ = false;
  bool has_raised_ = false;
  sigset_t before_;
};

} // namespace asyncnbd::transport
