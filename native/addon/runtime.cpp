// See runtime.hpp.
#include "addon/runtime.hpp"

namespace asyncnbd::addon {

schedule::Runtime &runtime() {
  static schedule::Runtime &made = schedule::Runtime::make_for_system();
  return made;
}

backend::Resources resources() {
  return {runtime().clock, runtime().timers, runtime().threads};
}

} // namespace asyncnbd::addon
