// What a simulated run has of the system's memory.
#pragma once

#include <cstdint>

namespace simulation {

// From now on: of the mappings asked for, one in so many is refused; 0: none is.
void refuse_memory(uint64_t one_in);
// By the sources under test, and not given back.
int64_t mapped_bytes();
// As long as nothing is mapped: the next run has the addresses of the last.
void begin_addresses();

} // namespace simulation
