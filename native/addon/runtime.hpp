// The one runtime of the process: Node loads the addon once, whatever the number of its threads.
#pragma once

#include "schedule/runtime.hpp"

namespace asyncnbd::addon {

// Made at the first call. Any thread.
schedule::Runtime &runtime();

} // namespace asyncnbd::addon
