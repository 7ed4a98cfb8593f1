// What is known of an open export: collected once while it is prepared, then unchanged until it is
// closed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

namespace asyncnbd::backend {

// The values of NBDKIT_FUA_* and NBDKIT_CACHE_*, and for zeroing the same three steps.
enum class Support : uint8_t { none = 0, emulate = 1, native = 2 };

// From the answer of a plugin or of nbdkit's filter, which is not negative. An answer that is too
// large counts as native, as under nbdkit.
constexpr Support support_of(int answer) {
  return static_cast<Support>(std::min(answer, static_cast<int>(Support::native)));
}

// Block sizes in bytes ("Block size constraints"); all 0 if the export has no preference.
struct BlockSizes {
  uint32_t minimum = 0;
  uint32_t preferred = 0;
  uint32_t maximum = 0;
};

// What a backend leaves to the emulation directly above it.
struct CallLimits {
  uint64_t longest_range_bytes = UINT64_MAX; // for trim, zero, cache and block status
  bool takes_one_context = false;            // in a block status
  uint32_t without_fua = 0;  // bits 1 << NBD_CMD_*: not durable although `fua` is native
  bool emulates_fua = false; // another emulation below takes care of FUA
};

// How many calls at once a backend allows; the numbers are nbdkit's.
enum class ThreadModel : int {
  serialize_connections = 0,
  serialize_all_requests = 1,
  serialize_requests = 2,
  parallel = 3,
  async = 4, // not nbdkit's: a call may be answered after it has returned
};

struct Facts {
  uint64_t size_bytes = 0;
  bool can_write = false;
  bool can_flush = false;
  bool is_rotational = false;
  bool can_trim = false;
  bool can_fast_zero = false;
  bool can_multi_conn = false;
  bool serializes_connections = false; // a client's second connection would wait for its first
  bool can_extents = false;
  // Whether to ask for extents before a read, to find parts that need not be read.
  bool has_sparse_reads = false;
  Support zero = Support::none;
  Support fua = Support::none;
  Support cache = Support::none;
  ThreadModel thread_model = ThreadModel::parallel;
  CallLimits call_limits; // a layer above the emulation has none
  // For clients; empty if nobody asked.
  std::string description;
  std::optional<BlockSizes> block_sizes = BlockSizes{}; // std::nullopt: the plugin failed to tell
  // Whether clients that were told of the block sizes must keep to them. Plugins in C get all
  // requests, as from nbdkit.
  bool block_sizes_bind = false;

  // Whether requests may be answered after submit has returned, even if its caller may block.
  bool answers_later() const { return thread_model == ThreadModel::async; }
};

// Facts that a plugin is only asked for if somebody wants them, as under nbdkit: the client in its
// handshake, or a filter in front.
struct Wanted {
  bool description = false;
  bool block_sizes = false;

  bool includes(const Wanted &other) const {
    return (description || !other.description) && (block_sizes || !other.block_sizes);
  }
};
constexpr Wanted WANTS_ALL{true, true};

} // namespace asyncnbd::backend
