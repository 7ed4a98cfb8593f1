// Clients are told the extents that a file lists, whatever the plugin has there.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: file, its path, which is read at once. nullptr, with words in `*error`, if it cannot be
// read or says something else than extents, or there are other options.
std::unique_ptr<backend::Filter> make_extentlist(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
