// See runtime.hpp.
#include "addon/runtime.hpp"

namespace asyncnbd::addon {

schedule::Runtime &runtime() {
  static schedule::Runtime &made = schedule::Runtime::make_for_system();
  return made;
}

} // namespace asyncnbd::addon
