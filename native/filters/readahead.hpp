// For clients that read sequentially, asks the backend below to cache the next parts of the disk.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_readahead(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error);

} // namespace asyncnbd::filters
