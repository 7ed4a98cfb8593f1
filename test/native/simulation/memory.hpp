// How much memory a simulated run has by new.
#pragma once

#include <cstdint>

namespace simulation {

// That have not been given back, of the whole program.
int64_t pieces_in_use();

} // namespace simulation
