// Reads a list of extents from a text file, a line for each: offset, length, and its type.
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

// In order, without gaps, from 0 to UINT64_MAX: what no line tells of is a hole. std::nullopt, with
// words for the user in `*error`, on failure.
std::optional<std::vector<ListedExtent>> read_extent_file(const std::string &path,
                                                          std::string *error);

} // namespace asyncnbd::filters
