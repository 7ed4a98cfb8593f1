// The one runtime of the process: Node loads the addon once, whatever the number of its threads.
#pragma once

#include "backend/resources.hpp"
#include "schedule/runtime.hpp"

namespace asyncnbd::addon {

// Made at the first call. Any thread.
schedule::Runtime &runtime();
// What backends use of it.
backend::Resources resources();

} // namespace asyncnbd::addon
