// Clients that read one part of the disk after the other find the next parts cached: what is below
// is asked to cache them.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Without options. nullptr, with words in `*error`, if there are any.
std::unique_ptr<backend::Filter> make_readahead(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error);

} // namespace asyncnbd::filters
