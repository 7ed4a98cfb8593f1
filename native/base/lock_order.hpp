// The order in which locks are taken, by their names, and its check.
#pragma once

#include <cstddef>
#include <cstdint>

namespace asyncnbd::base {

// A thread that holds a lock may take only those further down, so that no two threads ever wait for
// each other. Two locks of one rank are never held together. docs/architecture.md says under "Order
// of locks" what each guards, and what is called while it is held.
enum class LockRank : uint8_t {
  // addon
  export_requests,
  tls_contexts,
  chains,
  // backend; what a plugin does while it is opened may need many of those below
  chain,
  turns,
  plugin_opening,
  kept_instances,
  operations,
  script_bridge,
  // filters
  delayed,
  cow_work,
  cow_operations,
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
  slabs,
  memory_budget,
  timers,
  thread_pool,
};
constexpr size_t LOCK_RANKS = static_cast<size_t>(LockRank::thread_pool) + 1;

#ifdef ASYNCNBD_CHECK_LOCKS

// Called for each lock that the calling thread takes and gives back. Ends the process, with a line
// that says why, if the order is not kept, or if the thread does not hold what it unlocks.
void before_lock(LockRank rank);
void before_unlock(LockRank rank);
// Before a wait for a condition, which gives back its own lock alone: no other may be held.
void before_wait();

#endif

} // namespace asyncnbd::base
