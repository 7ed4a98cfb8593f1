// What extents say about a read: which parts of it need no data.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace asyncnbd::backend {

// A run of bytes of one kind: for base:allocation NBDKIT_EXTENT_*, which are NBD_STATE_*; for
// other metadata contexts what they define.
struct Extent {
  uint64_t length_bytes;
  uint64_t flags;
};

// Flags of base:allocation: nothing is allocated, and it reads as zeroes.
constexpr uint64_t HOLE_AND_ZERO = 3; // NBD_STATE_HOLE, NBD_STATE_ZERO

// A part of a read.
struct Run {
  uint64_t offset;
  uint32_t length_bytes;
  bool is_hole; // reads as zeroes
};

// Adds a run, or makes the last one longer if it is of the same kind.
void append_extent(std::vector<Extent> &extents, uint64_t length_bytes, uint64_t flags);

// Leaves those that begin within so many bytes, the last of them cut there.
void cut_extents(std::vector<Extent> &extents, uint64_t length_bytes);

// Divides a read by `extents`, which begin at its offset. Of holes only those count that are
// worth a chunk of their own, and only the first few. nullptr if there are none.
std::unique_ptr<std::vector<Run>> divide_read(const std::vector<Extent> &extents, uint64_t offset,
                                              uint32_t length_bytes);

// Makes extents that begin at `offset` end at multiples of `alignment`, a power of two, and join
// where neighbours are equal: a unit has those flags that hold for all of it. What is after the
// last whole unit is left as it is.
void align_extents(std::vector<Extent> &extents, uint64_t offset, uint64_t alignment);

} // namespace asyncnbd::backend
