// What one run is like: drawn from its seed before anything happens.
#pragma once

#include <chrono>
#include <cstdint>

#include "backend/facts.hpp"
#include "fibers.hpp"
#include "wire/wire.hpp"

namespace simulation {

constexpr uint64_t DISK_BYTES = 64 << 20;
constexpr uint32_t LARGEST_REQUEST_BYTES = 200 << 10;

using asyncnbd::backend::Support;

enum class LayerKind : uint8_t { none, delay, multi_conn };

struct Plan {
  Chances chances;

  // The server.
  unsigned cores = 2;
  bool answers_later = false;
  unsigned max_threads = 4;
  unsigned spin_us = 0;
  uint64_t budget_bytes = 0;
  uint64_t connection_bytes = 0;
  std::chrono::milliseconds grace{0};
  std::chrono::milliseconds stall_timeout{0}; // 0: none

  // The plugin: of its answers, one in so many comes in such a way; 0: none does.
  unsigned plugin_threads = 1;
  uint64_t slow_one_in = 0;
  uint64_t later_one_in = 0;     // only where it answers later
  uint64_t never_one_in = 0;     // nor without being given up
  uint64_t elsewhere_one_in = 0; // in other memory than the request's
  bool has_places = false;       // for the data of some
  uint64_t longest_ns = 0;       // of one that is slow
  unsigned turns = 0;            // requests that it takes at once; 0: as many as there are
  bool has_loop = false;         // its callbacks run on, which may lead connections
  bool loop_ends = false;        // before these do
  unsigned turn_workers = 0;     // that make the calls which have waited; 0: whoever ends a turn

  // What it can do, and what layers of ours do instead.
  Support fua = Support::none;
  Support zero = Support::emulate;
  Support cache = Support::emulate;
  uint64_t longest_range_bytes = UINT64_MAX;
  bool looks_for_holes = false;   // before reads
  uint64_t fail_flush_one_in = 0; // of the flushes

  // In front of it.
  LayerKind layer = LayerKind::none;
  uint64_t layer_delay_ms = 0;

  // The clients.
  asyncnbd::wire::ReplyStyle style = asyncnbd::wire::ReplyStyle::simple;
  unsigned connections = 1;
  unsigned waves = 1;    // of so many connections, each when those before are over
  unsigned requests = 8; // of each
  size_t stream_bytes = 64 << 10;
  uint64_t large_one_in = 0; // of the requests
  bool are_writers = false;  // most of what they ask is a write
  uint64_t pause_one_in = 1; // before a request
  uint64_t longest_pause_ns = 1;
  uint64_t misbehave_one_in = 0; // of the clients

  // What happens to all.
  bool stops = false;
  uint64_t kill_one_in = 0; // of the connections
  uint64_t refuse_threads_one_in = 0;
  uint64_t refuse_memory_one_in = 0;
  uint64_t refuse_descriptors_one_in = 0;
};

Plan draw_plan(uint64_t seed);

} // namespace simulation
