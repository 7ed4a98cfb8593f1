// What a simulated run has of the system besides descriptors: threads, locks, a clock.
#pragma once

#include <cstdint>

namespace simulation {

struct Fiber;

// What its thread_local variables have, when it ends: by the fiber itself.
void end_specifics(Fiber &self);

// From now on: of the threads asked for, one in so many is refused; 0: none is.
void refuse_threads(uint64_t one_in);

} // namespace simulation
