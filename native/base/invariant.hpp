// What must hold whatever peers and plugins do: checked in release too.
#pragma once

namespace asyncnbd::base {

// Ends the process with a line that says what did not hold: going on would corrupt data.
[[noreturn]] void invariant_failed(const char *what);

// One condition each, on our own state only.
inline void invariant(bool holds, const char *what) {
  if (__builtin_expect(!holds, 0))
    invariant_failed(what);
}

} // namespace asyncnbd::base
