// Whether the simulation sees what processors do.
#pragma once

namespace simulation {

// Two threads that each store and then look at what the other stores may both look too early,
// unless the stores are sequentially consistent. Fails where that is not what happens.
void check_store_buffering();

} // namespace simulation
