// See guarded_copy.hpp. If a disk is full or fails, touching the memory of its file raises SIGBUS.
// The handler returns the thread to the beginning of its copy.
#include "store/guarded_copy.hpp"

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstring>

namespace asyncnbd::store {

namespace {

// Set while a thread copies. Must not be allocated at first use, which may be in the handler.
thread_local sigjmp_buf *volatile escape [[gnu::tls_model("initial-exec")]] = nullptr;

struct sigaction previous; // set once, before the handler is called

void on_sigbus(int number, siginfo_t *info, void *context) {
  if (escape != nullptr)
    siglongjmp(*escape, 1);
  if ((previous.sa_flags & SA_SIGINFO) != 0)
    previous.sa_sigaction(number, info, context);
  else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
    previous.sa_handler(number);
  else
    sigaction(SIGBUS, &previous, nullptr); // the same access raises it again
}

} // namespace

// The handler runs on the alternate signal stack, if there is one: threads of Go and others need
// that.
void handle_sigbus() {
  static const bool is_handled = [] {
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &previous) == 0;
  }();
  (void)is_handled;
}

bool copy_guarded(uint8_t *to, const uint8_t *from, size_t length_bytes) {
  sigjmp_buf here;
  if (sigsetjmp(here, 0) != 0) {
    escape = nullptr;
    return false;
  }
  escape = &here;
  std::atomic_signal_fence(std::memory_order_seq_cst); // keeps the copy between the two assignments
  memcpy(to, from, length_bytes);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  escape = nullptr;
  return true;
}

} // namespace asyncnbd::store
