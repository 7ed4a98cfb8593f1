// Counts requests, and writes what it has counted to a file at the end, in nbdkit's format.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: file, the path of one, and appends: to it; percent: of the requests of one kind, so many
// have their sizes told there. counters: those of somebody who looks at them. nullptr, with words
// in `*error`, if there is something else, a value does not fit, or the file cannot be opened.
std::unique_ptr<backend::Filter>
make_stats(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
