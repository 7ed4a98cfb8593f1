// What lies on the simulated disk and what clients write: known from the place alone, so that each
// end can check what the other has sent.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simulation {

// A request for this place fails.
inline bool is_broken(uint64_t offset) {
  return (offset * 0xbf58476d1ce4e5b9) >> 60 == 7;
}

void fill(uint8_t *to, uint64_t offset, size_t length_bytes);
bool is_filled(const uint8_t *from, uint64_t offset, size_t length_bytes);

} // namespace simulation
