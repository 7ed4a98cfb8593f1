// See sparse.hpp.
#include "backend/sparse.hpp"

#include <algorithm>

#include "host/abi.hpp"

namespace asyncnbd::backend {

namespace {

// A hole smaller than this costs the client more than its zeroes.
constexpr uint64_t MIN_HOLE_BYTES = 4096;
// "The server SHOULD use chunks with lengths and offsets as an integer multiple of 512 bytes."
constexpr uint64_t CHUNK_ALIGNMENT = 512;
// A reply must fit into one list of buffers.
constexpr size_t MAX_HOLES = 32;

uint64_t round_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

void push(std::vector<Run> &runs, uint64_t begin, uint64_t end, bool is_hole) {
  if (begin < end)
    runs.push_back({begin, static_cast<uint32_t>(end - begin), is_hole});
}

} // namespace

void append_extent(std::vector<Extent> &extents, uint64_t length_bytes, uint64_t flags) {
  if (length_bytes == 0)
    return;
  if (!extents.empty() && extents.back().flags == flags)
    extents.back().length_bytes += length_bytes;
  else
    extents.push_back({length_bytes, flags});
}

void cut_extents(std::vector<Extent> &extents, uint64_t length_bytes) {
  for (Extent &extent : extents) {
    extent.length_bytes = std::min(extent.length_bytes, length_bytes);
    length_bytes -= extent.length_bytes;
  }
  while (!extents.empty() && extents.back().length_bytes == 0)
    extents.pop_back();
}

std::unique_ptr<std::vector<Run>> divide_read(const std::vector<Extent> &extents, uint64_t offset,
                                              uint32_t length_bytes) {
  const uint64_t end = offset + length_bytes;
  uint64_t at = offset;   // where the next extent begins
  uint64_t sent = offset; // where the next run begins
  size_t holes = 0;
  auto runs = std::make_unique<std::vector<Run>>();
  for (const Extent &extent : extents) {
    const uint64_t extent_end = at + std::min(extent.length_bytes, end - at);
    uint64_t begin = at == offset ? at : round_up(at, CHUNK_ALIGNMENT);
    uint64_t hole_end = extent_end == end ? end : extent_end / CHUNK_ALIGNMENT * CHUNK_ALIGNMENT;
    at = extent_end;
    const bool is_worth_it =
        (extent.flags & NBDKIT_EXTENT_ZERO) != 0 && hole_end > begin &&
        (hole_end - begin >= MIN_HOLE_BYTES || hole_end - begin == end - offset);
    if (is_worth_it && holes < MAX_HOLES) {
      push(*runs, sent, begin, false);
      push(*runs, begin, hole_end, true);
      sent = hole_end;
      holes++;
    }
    if (at == end)
      break;
  }
  if (holes == 0)
    return nullptr;
  push(*runs, sent, end, false);
  return runs;
}

void align_extents(std::vector<Extent> &extents, uint64_t offset, uint64_t alignment) {
  std::vector<Extent> aligned;
  uint64_t at = offset;        // the end of the extents seen so far
  uint64_t done = offset;      // the end of `aligned`
  uint64_t unit_flags = ~0ull; // of the current unit
  for (const Extent &extent : extents) {
    uint64_t left = extent.length_bytes;
    if (at > done) { // within a unit
      const uint64_t part = std::min(left, round_up(at, alignment) - at);
      unit_flags &= extent.flags;
      at += part;
      left -= part;
      if (at % alignment == 0) {
        append_extent(aligned, at - done, unit_flags);
        done = at;
      }
    }
    if (left == 0)
      continue;
    const uint64_t whole = (at + left) / alignment * alignment;
    if (whole > at) {
      append_extent(aligned, whole - at, extent.flags);
      left -= whole - at;
      at = done = whole;
    }
    if (left > 0) {
      unit_flags = extent.flags;
      at += left;
    }
  }
  append_extent(aligned, at - done, unit_flags);
  extents = std::move(aligned);
}

} // namespace asyncnbd::backend
