// What is known of an open export: gathered once while it is prepared, the same until it is closed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

namespace asyncnbd::backend {

// The values of NBDKIT_FUA_* and NBDKIT_CACHE_*, and for zeroing the same three steps.
enum class Support : uint8_t { none = 0, emulate = 1, native = 2 };

// Of what a plugin or one of nbdkit's filters has answered, which is not negative. More than it may
// be counts as native, as under nbdkit.
constexpr Support support_of(int answer) {
  return static_cast<Support>(std::min(answer, static_cast<int>(Support::native)));
}

// Block sizes in bytes ("Block size constraints"); all 0 when the export has none to tell.
struct BlockSizes {
  uint32_t minimum = 0;
  uint32_t preferred = 0;
  uint32_t maximum = 0;
};

// What a backend leaves to the emulation directly above it.
struct CallLimits {
  uint64_t longest_range_bytes = UINT64_MAX; // of a trim, zeroing, cache or block status
  bool takes_one_context = false;            // in a block status
  uint32_t without_fua = 0;  // bits 1 << NBD_CMD_*: what cannot be durable though `fua` is native
  bool emulates_fua = false; // there is another emulation below, which sees to that
};

// How many calls a backend stands at once; the numbers are nbdkit's.
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
  bool serializes_connections = false; // a second one of a client would wait for the first
  bool can_extents = false;
  // Whether extents may be asked for before a read, for what of it need not be read at all.
  bool has_sparse_reads = false;
  Support zero = Support::none;
  Support fua = Support::none;
  Support cache = Support::none;
  ThreadModel thread_model = ThreadModel::parallel;
  CallLimits call_limits; // a layer above the emulation has none
  // For clients; what nobody wanted to know is empty.
  std::string description;
  std::optional<BlockSizes> block_sizes = BlockSizes{}; // std::nullopt: the plugin failed to tell
  // Requests of who was told of them must keep to them. Plugins in C get all, as from nbdkit.
  bool block_sizes_bind = false;

  // Requests may be answered after submit has returned, whatever it was told of its caller.
  bool answers_later() const { return thread_model == ThreadModel::async; }
};

// What plugins are asked only where somebody wants to know it, as by nbdkit: the client in its
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
