// See invariant.hpp.
#include "base/invariant.hpp"

#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace asyncnbd::base {

// Without the log, whose locks the caller may hold.
void invariant_failed(const char *what) {
  constexpr char INTRODUCTION[] = "asyncnbd: internal error, please report it: ";
  ssize_t written = write(STDERR_FILENO, INTRODUCTION, sizeof INTRODUCTION - 1);
  written = write(STDERR_FILENO, what, strlen(what));
  written = write(STDERR_FILENO, "\n", 1);
  (void)written;
  abort();
}

} // namespace asyncnbd::base
