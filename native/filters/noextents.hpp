// Shows clients the whole export as data: for plugins whose extents are slow or wrong.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_noextents(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error);

} // namespace asyncnbd::filters
