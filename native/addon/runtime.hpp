// What exists once in the process, for all threads of JavaScript: Node loads the addon once for all
// of them, and they pass each other numbers.
#pragma once

#include "addon/shared_by_name.hpp"
#include "addon/shared_chains.hpp"
#include "addon/tls_contexts.hpp"
#include "backend/turn_queue.hpp"
#include "filters/request_counters.hpp"
#include "nbd/latency_counters.hpp"
#include "nbd/resources.hpp"

namespace asyncnbd::addon {

// The first call of one of these makes everything. Any thread.
schedule::Runtime &runtime();
nbd::Resources &resources();
TlsContexts &tls_contexts();
SharedByName<backend::TurnQueue> &shared_turns();
SharedByName<filters::RequestCounters> &shared_counters();
SharedByName<nbd::ExportLatencies> &shared_latencies();
SharedChains &shared_chains();

} // namespace asyncnbd::addon
