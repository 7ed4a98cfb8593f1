// Counts requests, and writes the counts to a file at the end, in nbdkit's format.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: file, its path; appends: to the file, instead of replacing it; percent: the share of
// requests of a kind whose sizes are listed; counters: JavaScript's counters, which it can read.
// nullptr, with a message in `*error`, for an unknown option or an invalid value, or if the file
// cannot be opened.
std::unique_ptr<backend::Filter>
make_stats(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
