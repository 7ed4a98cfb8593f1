// What the parts of one connection share.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "backend/backend.hpp"
#include "nbd/check.hpp"
#include "nbd/client_context.hpp"
#include "nbd/client_limits.hpp"
#include "nbd/failure.hpp"
#include "nbd/latency_counters.hpp"
#include "nbd/request_counters.hpp"
#include "nbd/resources.hpp"
#include "nbd/sparse_hint.hpp"
#include "schedule/loop_poller.hpp"
#include "transport/transport.hpp"

namespace asyncnbd::nbd {

struct TransmissionSettings {
  uint16_t flags; // NBD_FLAG_*, as the client was told
  ClientLimits limits;
  std::shared_ptr<base::MemoryBudget> server_budget; // in flight on all, or nullptr
  wire::ReplyStyle style = wire::ReplyStyle::simple;
  std::vector<MetaContext> contexts{}; // negotiated
  uint32_t block_bytes = 1;            // see ExportFacts
  uint32_t max_payload_bytes = wire::MAX_PAYLOAD_BYTES;
  bool has_shortcuts = true;                    // reservations, and data in pages
  std::shared_ptr<LatencyCounters> latencies{}; // the export's; nullptr: nobody counts them
};

// Who the client is and what serves it.
struct Ends {
  std::shared_ptr<ClientContext> client;
  std::unique_ptr<transport::Transport> transport;
  std::unique_ptr<backend::Backend> backend;
  // Which the backend's callbacks run on; nullptr: they run on none, or much is between.
  std::shared_ptr<schedule::LoopPoller> loop{};
};

// Made before the parts, and outlives them.
struct Transmission {
  Transmission(Resources &resources, Ends ends, const TransmissionSettings &settings);

  // ---- never change ----
  Resources &resources;
  schedule::Runtime &runtime;
  const TransmissionSettings settings;
  Ends ends; // until a start that has failed
  transport::Transport &transport;
  backend::Backend &backend;
  const ExportFacts facts;
  const unsigned max_threads;
  const bool answers_later;   // the backend: its calls return at once
  const bool may_send_holes;  // in the place of data
  const bool system_receives; // into any memory, and nobody before it
  const bool may_pipe;        // data may stay in pages

  // ---- the connection, from start until finish: it keeps itself ----
  std::shared_ptr<void> life;

  // ---- any thread ----
  Failure failure;
  SparseHint sparse_hint;
  RequestCounters counters;
  std::atomic<bool> stop_requested{false};  // pairs with the registration: see PollPlace
  std::atomic<int64_t> grace_ms;            // a setting, pairs with nothing
  std::atomic<int64_t> stop_by_ms;          // of the clock; as the grace
  std::atomic<bool> client_has_left{false}; // a hint to plugins, pairs with nothing

  std::chrono::milliseconds grace() const {
    return std::chrono::milliseconds(grace_ms.load(std::memory_order_relaxed));
  }
  // Of the grace of a stop, what its requests have left.
  std::chrono::milliseconds time_to_close() const;
};

} // namespace asyncnbd::nbd
