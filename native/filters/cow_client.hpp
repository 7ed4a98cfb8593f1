// What the cow filter's requests need to know of the client whose they are.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>

#include "backend/backend.hpp"
#include "filters/blocks.hpp"
#include "filters/cow_disk.hpp"

namespace asyncnbd::filters {

struct CowSettings {
  uint64_t block_bytes;
  bool on_cache;
  bool on_read;
  std::string on_read_path;

  bool may_copy_reads() const { return on_read || !on_read_path.empty(); }
  // As many bytes as are fetched at once.
  uint64_t fill_bytes() const { return std::max<uint64_t>(256 << 10, block_bytes); }
};

struct CowClient {
  backend::Backend &below;
  CowDisk &disk;
  const CowSettings &settings;
  const Blocks blocks;
  std::atomic<bool> is_given_up{false}; // pairs with nothing: who comes later is given up below
};

} // namespace asyncnbd::filters
