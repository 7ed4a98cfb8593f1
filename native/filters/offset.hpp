// Clients see a part of an export.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: offset, where it begins, 0 by default; range, its length, by default all that is left.
// nullptr, with words in `*error`, if there is something else.
std::unique_ptr<backend::Filter>
make_offset(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
