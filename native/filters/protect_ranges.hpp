// The parts of an export that are protected.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace asyncnbd::filters {

struct ProtectedRange {
  uint64_t begin;
  uint64_t end;     // after its last byte
  std::string word; // as the user gave it, or the first of several that were joined
};

// Parses words as in protect.cpp. The ranges are in order and not adjacent. An error message is in
// `*error`.
std::vector<ProtectedRange> protected_ranges(const std::vector<std::string> &words,
                                             std::string *error);

// The first range that ends after `offset`; nullptr: none.
const ProtectedRange *next_protected(const std::vector<ProtectedRange> &ranges, uint64_t offset);

} // namespace asyncnbd::filters
