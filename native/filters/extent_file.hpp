// Reads a list of extents from a text file, one line for each: offset, length and type.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace asyncnbd::filters {

struct ListedExtent {
  uint64_t offset;
  uint64_t length_bytes;
  uint64_t flags; // of base:allocation
};

// In order, without gaps, from 0 to UINT64_MAX: parts without a line are holes. std::nullopt, with
// a message in `*error`, on failure.
std::optional<std::vector<ListedExtent>> read_extent_file(const std::string &path,
                                                          std::string *error);

} // namespace asyncnbd::filters
