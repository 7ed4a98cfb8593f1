// One client, for the cache filter's requests.
#pragma once

#include <algorithm>
#include <cstdint>

#include "filters/block_operation.hpp"
#include "filters/cache_disk.hpp"
#include "host/context.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

struct CacheClient : BlockClient {
  host::CallContext &context; // outlives it
  CacheDisk &disk;
  const CacheSettings &settings;

  // How many bytes are fetched or written back at once.
  uint64_t piece_bytes() const { return std::max<uint64_t>(256 << 10, disk.blocks.block_bytes); }
  uint64_t piece_blocks() const { return piece_bytes() / disk.blocks.block_bytes; }

  // Whether a change is written below before it is answered, because no flush would do it later.
  bool writes_through(uint16_t flags) const {
    if (settings.mode != CacheMode::writeback)
      return settings.mode == CacheMode::writethrough;
    return (flags & wire::NBD_CMD_FLAG_FUA) != 0 || !below.facts().can_flush;
  }

  // A dropped block cannot be written back again, so it is made durable first, if possible.
  uint16_t flags_for_room() const {
    const bool is_durable =
        settings.mode != CacheMode::unsafe && below.facts().fua != backend::Support::none;
    return is_durable ? wire::NBD_CMD_FLAG_FUA : 0;
  }
  bool flushes_for_room() const {
    return settings.mode != CacheMode::unsafe && flags_for_room() == 0 && below.facts().can_flush;
  }
};

} // namespace asyncnbd::filters
