// Shows clients a part of an export.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: offset, the beginning of the part, 0 by default; range, its length, by default up to the
// end. nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter>
make_offset(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
