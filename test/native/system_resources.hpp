// What tests that serve real sockets use of the process: once for a whole program, as the runtime's
// threads do not end.
#pragma once

#include "connection/resources.hpp"

namespace asyncnbd {

inline connection::Resources &system_resources() {
  static auto *made = new connection::Resources(schedule::Runtime::make_for_system());
  return *made;
}

} // namespace asyncnbd
