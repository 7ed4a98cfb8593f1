// Tells clients the extents that a file lists, instead of the plugin's.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: file, its path; it is read at once. nullptr, with a message in `*error`, if it cannot be
// read or has something else than extents, or for an unknown option.
std::unique_ptr<backend::Filter> make_extentlist(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
