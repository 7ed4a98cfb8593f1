// Clients may send requests of any size to a plugin that takes only whole blocks, or only short
// ones.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options, in bytes: minBlock, what the plugin is asked for in multiples of, a power of two up to
// 64 KiB; maxData, the longest read, write or request to cache; maxLength, the longest trim or
// zeroing. Without one the plugin's own block sizes say it. nullptr, with words in `*error`, if
// there is something else.
std::unique_ptr<backend::Filter> make_blocksize(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error);

} // namespace asyncnbd::filters
