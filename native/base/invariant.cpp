// See invariant.hpp.
#include "base/invariant.hpp"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace asyncnbd::base {

// Without the log, whose locks the caller may hold.
void invariant_failed(const char *what) {
  dprintf(STDERR_FILENO, "asyncnbd: internal error, please report it: %s\n", what);
  abort();
}

} // namespace asyncnbd::base
