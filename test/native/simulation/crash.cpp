// See crash.hpp.
#include "crash.hpp"

#include <csignal>
#include <cstring>

#include "fibers.hpp"

namespace simulation {

namespace {

// A fiber may have used up its own.
alignas(16) char handler_stack[64 << 10];

void on_crash(int number) {
  fail("%s", strsignal(number));
}

} // namespace

void report_crashes() {
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof handler_stack;
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = on_crash;
  action.sa_flags = SA_ONSTACK | SA_RESETHAND;
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL})
    sigaction(number, &action, nullptr);
}

} // namespace simulation
