// One client, for the cow filter's requests.
#pragma once

#include <algorithm>
#include <cstdint>

#include "filters/block_operation.hpp"
#include "filters/blocks.hpp"
#include "filters/cow_disk.hpp"
#include "host/context.hpp"

namespace asyncnbd::filters {

struct CowSettings {
  uint64_t block_bytes;
  bool on_cache;
  KeepsReads on_read;

  // How many bytes are fetched at once.
  uint64_t fill_bytes() const { return std::max<uint64_t>(256 << 10, block_bytes); }
};

struct CowClient : BlockClient {
  host::CallContext &context; // outlives it
  CowDisk &disk;
  const CowSettings &settings;
  const Blocks blocks;
};

} // namespace asyncnbd::filters
