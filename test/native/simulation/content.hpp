// What lies on the simulated disk and what clients write: known from the place alone, so that each
// end can check what the other has sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/sparse.hpp"

namespace simulation {

// A request for this place fails.
inline bool is_broken(uint64_t offset) {
  return (offset * 0xbf58476d1ce4e5b9) >> 60 == 7;
}

// Of the one metadata context, as clients know it.
constexpr uint32_t CONTEXT_ID = 7;

// Whether nothing is allocated in a range, or all of it; holes read as zeroes.
bool is_all_holes(uint64_t offset, uint64_t length_bytes);
bool is_all_data(uint64_t offset, uint64_t length_bytes);
// What there is from `offset` on.
std::vector<asyncnbd::backend::Extent> extents_of(uint64_t offset, uint64_t length_bytes);

void fill(uint8_t *to, uint64_t offset, size_t length_bytes);
bool is_filled(const uint8_t *from, uint64_t offset, size_t length_bytes);

} // namespace simulation
