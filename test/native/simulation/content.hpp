// What lies on the simulated disk and what clients write: known from the place alone, so that each
// end can check what the other has sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/sparse.hpp"
#include "random.hpp"

namespace simulation {

// A request for this place fails.
inline bool is_broken(uint64_t offset) {
  return (offset * 0xbf58476d1ce4e5b9) >> 60 == 7;
}

// Of the one metadata context, as clients know it.
constexpr uint32_t CONTEXT_ID = 7;

// Each hole, and where one begins.
constexpr uint64_t HOLE_BYTES_EACH = 32 << 10;
uint64_t random_hole(Random &random, uint64_t disk_bytes);
// NBD_CMD_FLAG_*: what clients ask for when they zero there, as the plugin knows.
uint16_t zero_flags(uint64_t offset);

// Whether nothing is allocated in a range, or all of it; holes read as zeroes.
bool is_all_holes(uint64_t offset, uint64_t length_bytes);
bool is_all_data(uint64_t offset, uint64_t length_bytes);
// What there is from `offset` on.
std::vector<asyncnbd::backend::Extent> extents_of(uint64_t offset, uint64_t length_bytes);

void fill(uint8_t *to, uint64_t offset, size_t length_bytes);
bool is_filled(const uint8_t *from, uint64_t offset, size_t length_bytes);

} // namespace simulation
