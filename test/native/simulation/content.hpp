// What lies on the simulated disk and what clients write: known from the place alone, so that each
// end can check what the other has sent.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simulation {

inline uint8_t byte_at(uint64_t offset) {
  return static_cast<uint8_t>((offset * 0x9e3779b97f4a7c15) >> 56);
}

// A request for this place fails.
inline bool is_broken(uint64_t offset) {
  return (offset * 0xbf58476d1ce4e5b9) >> 60 == 7;
}

inline void fill(uint8_t *to, uint64_t offset, size_t length_bytes) {
  for (size_t i = 0; i < length_bytes; i++)
    to[i] = byte_at(offset + i);
}

inline bool is_filled(const uint8_t *from, uint64_t offset, size_t length_bytes) {
  for (size_t i = 0; i < length_bytes; i++)
    if (from[i] != byte_at(offset + i))
      return false;
  return true;
}

} // namespace simulation
