// What the cache filter's requests need to know of the client whose they are.
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

  // As many bytes as are fetched or written back at once.
  uint64_t piece_bytes() const { return std::max<uint64_t>(256 << 10, disk.blocks.block_bytes); }
  uint64_t piece_blocks() const { return piece_bytes() / disk.blocks.block_bytes; }

  // Of a change: whether it is answered once it is below, where it would not be flushed else.
  bool writes_through(uint16_t flags) const {
    if (settings.mode != CacheMode::writeback)
      return settings.mode == CacheMode::writethrough;
    return (flags & wire::NBD_CMD_FLAG_FUA) != 0 || !below.facts().can_flush;
  }

  // What goes for want of room nobody can write again: it is made durable first, where that can be.
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
