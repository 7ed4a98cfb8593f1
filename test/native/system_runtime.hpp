// The runtime of tests that serve real sockets: one for a whole program, as its threads do not end.
#pragma once

#include "schedule/runtime.hpp"

namespace asyncnbd {

inline schedule::Runtime &system_runtime() {
  static schedule::Runtime &made = schedule::Runtime::make_for_system();
  return made;
}

} // namespace asyncnbd
