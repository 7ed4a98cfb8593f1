// See thread_state.hpp.
#include "host/thread_state.hpp"

namespace asyncnbd::host {

ThreadState &thread_state() {
  static thread_local ThreadState state;
  return state;
}

} // namespace asyncnbd::host
