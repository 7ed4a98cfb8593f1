// What the clients of a simulated run ask for, and which errors they may get.
#pragma once

#include <cstdint>

#include "plan.hpp"
#include "replies.hpp"

namespace simulation {

// NBD_FLAG_*, as a client is told in the handshake.
uint16_t offered_flags(const Plan &plan);

// Of the run that is going on. One in so many is a request that the server has to refuse.
Asked draw_request(const Plan &plan);

// Whether this is how a request may end on which the disk has its say alone: `asked.error` is 0 or
// an error.
bool may_end_so(const Plan &plan, const Asked &asked);

} // namespace simulation
