// An export of another size: its end is cut off, or a hole is behind it.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options, in bytes: size, as which it is to be seen; roundUp and roundDown, powers of two, of
// which it is to be a multiple. nullptr, with words in `*error`, if there is something else, or a
// value does not fit.
std::unique_ptr<backend::Filter> make_truncate(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error);

} // namespace asyncnbd::filters
