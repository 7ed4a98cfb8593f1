// See sigpipe.hpp.
#include "transport/sigpipe.hpp"

#include <atomic>
#include <cerrno>
#include <ctime>
#include <pthread.h>

namespace asyncnbd::transport {

namespace {

std::atomic<bool> is_handled{false}; // pairs with nothing: seen late, guards block the signal

sigset_t only_sigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

} // namespace

void sigpipe_is_handled() {
  is_handled.store(true, std::memory_order_relaxed);
}

SigpipeGuard::SigpipeGuard() {
  if (is_handled.load(std::memory_order_relaxed))
    return;
  const sigset_t sigpipe = only_sigpipe();
  // If it was already blocked, a pending signal belongs to somebody else.
  is_guarding_ =
      pthread_sigmask(SIG_BLOCK, &sigpipe, &before_) == 0 && sigismember(&before_, SIGPIPE) == 0;
}

ssize_t SigpipeGuard::saw(ssize_t result) {
  has_raised_ = has_raised_ || result == -EPIPE;
  return result;
}

SigpipeGuard::~SigpipeGuard() {
  if (!is_guarding_)
    return;
  if (has_raised_) {
    const sigset_t sigpipe = only_sigpipe();
    const timespec at_once{0, 0};
    while (sigtimedwait(&sigpipe, nullptr, &at_once) == -1 && errno == EINTR)
      continue;
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

} // namespace asyncnbd::transport
