// The list behind struct nbdkit_extents. nbdkit's functions have types of 32 bits; metadata
// contexts of a plugin's own may have 64.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "host/abi.hpp"

struct nbdkit_extents {
  struct Entry {
    uint64_t offset;
    uint64_t length;
    uint64_t type;
  };

  uint64_t start; // the first byte asked about
  uint64_t end;   // the end of the export
  uint64_t next;  // where the next extent must begin; only meaningful once one was added
  bool any_added;
  std::vector<Entry> list;
};

namespace asyncnbd::host {

struct FreeExtents {
  void operator()(nbdkit_extents *extents) const { nbdkit_extents_free(extents); }
};
using ExtentsPointer = std::unique_ptr<nbdkit_extents, FreeExtents>;

} // namespace asyncnbd::host
