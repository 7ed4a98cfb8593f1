// The parts of an export that are protected.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace asyncnbd::filters {

struct ProtectedRange {
  uint64_t begin;
  uint64_t end;     // behind it
  std::string word; // that has named it first
};

// Of words as in protect.hpp: in order, none touching another. What is wrong with one of them is in
// `*error`.
std::vector<ProtectedRange> protected_ranges(const std::vector<std::string> &words,
                                             std::string *error);

// The first that ends behind `offset`; nullptr: there is none.
const ProtectedRange *next_protected(const std::vector<ProtectedRange> &ranges, uint64_t offset);

} // namespace asyncnbd::filters
