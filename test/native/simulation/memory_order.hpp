// Stores that other threads see late, as processors and compilers may have it where a program does
// not ask for more.
#pragma once

#include <cstddef>

#include "fibers.hpp"

namespace simulation {

// All that the fiber has stored is seen from now on.
void show_stores(Fiber &fiber);
// The same, if any of it is in this memory.
void show_stores_into(Fiber &fiber, const void *memory, size_t bytes);
// Of what it has stored, the oldest, perhaps.
void show_some_stores(Fiber &fiber, Random &random);

} // namespace simulation
