// One simulated run: a server, its plugin and its clients, from the first connect to the end of the
// process.
#pragma once

#include <cstdint>

namespace simulation {

struct Outcome {
  uint64_t switches;
  uint64_t digest;
  uint64_t answered;
};

// Ends the process, with words, if anything is wrong.
Outcome run_seed(uint64_t seed);

} // namespace simulation
