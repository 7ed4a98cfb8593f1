// What tests that serve real sockets use of the process: once for a whole program, as the runtime's
// threads do not end.
#pragma once

#include "nbd/resources.hpp"

namespace asyncnbd {

inline nbd::Resources &system_resources() {
  static auto *made = new nbd::Resources(schedule::Runtime::make_for_system());
  return *made;
}

} // namespace asyncnbd
