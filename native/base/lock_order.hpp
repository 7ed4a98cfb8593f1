// The order in which locks are taken, by their names, and its check.
#pragma once

#include <cstddef>
#include <cstdint>

namespace asyncnbd::base {

// A thread that holds one may take those below it, and only those: so no two threads ever wait for
// each other. Who holds what while taking what, and why, is in docs/architecture.md, under "Order
// of locks". Two locks of one name are never held together.
enum class LockRank : uint8_t {
  // addon
  export_requests,
  tls_contexts,
  // backend; what a plugin does while it is opened may need many of those below
  chain,
  plugin_opening,
  kept_instances,
  operations,
  spare_operations,
  script_bridge,
  // schedule
  idle_memory,
  slow_calls,
  stall_guard,
  call_words,
  registrations,
  poller_opening,
  stall_meter,
  // connection
  failure_reason,
  request_slabs,
  carving,
  buffers,
  // transport
  tls_stream,
  page_pipes,
  transport_end,
  // host
  servers,
  copies,
  bindings,
  interns,
  client_log,
  async_calls,
  // addon again: what a server tells JavaScript
  js_queue,
  // base
  memory_budget,
  timers,
  thread_pool,
};
constexpr size_t LOCK_RANKS = static_cast<size_t>(LockRank::thread_pool) + 1;

#ifdef ASYNCNBD_CHECK_LOCKS

// Around each lock of the calling thread's. Ends the process, with a line that says why, if the
// order is not kept, or if this thread does not hold what it unlocks.
void before_lock(LockRank rank);
void before_unlock(LockRank rank);
// Before a wait for a condition, with its lock: another one that is held would be held meanwhile.
void before_wait();

#endif

} // namespace asyncnbd::base
