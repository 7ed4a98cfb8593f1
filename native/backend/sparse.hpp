// Finds the parts of a read that need no data, from extents.
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

// Keeps the extents within the first `length_bytes`, and cuts the last one there.
void cut_extents(std::vector<Extent> &extents, uint64_t length_bytes);

// Divides a read by `extents`, which begin at its offset. Only holes that are worth a chunk count,
// and only the first few. nullptr if there are none.
std::unique_ptr<std::vector<Run>> divide_read(const std::vector<Extent> &extents, uint64_t offset,
                                              uint32_t length_bytes);

// Aligns the ends of extents, which begin at `offset`, to multiples of `alignment`, a power of two,
// and joins equal neighbours. Each unit gets the flags that hold for all of it. What follows the
// last whole unit stays as it is.
void align_extents(std::vector<Extent> &extents, uint64_t offset, uint64_t alignment);

} // namespace asyncnbd::backend
