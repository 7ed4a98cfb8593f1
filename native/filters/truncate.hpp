// Changes the size of an export: cuts off its end, or adds a hole.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options, in bytes: size, the new size; roundUp and roundDown, powers of two to round the size to.
// nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_truncate(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error);

} // namespace asyncnbd::filters
