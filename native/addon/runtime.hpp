// What there is once in the process, for all threads of JavaScript: Node loads the addon once,
// whatever their number, and what they give each other are numbers.
#pragma once

#include "addon/shared_chains.hpp"
#include "addon/shared_turns.hpp"
#include "addon/tls_contexts.hpp"
#include "connection/resources.hpp"

namespace asyncnbd::addon {

// All of it is made at the first call of one of these. Any thread.
schedule::Runtime &runtime();
connection::Resources &resources();
TlsContexts &tls_contexts();
SharedTurns &shared_turns();
SharedChains &shared_chains();

} // namespace asyncnbd::addon
