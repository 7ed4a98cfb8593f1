// Lets clients send requests of any size to a plugin that takes only whole blocks, or only short
// requests.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options, in bytes: minBlock, the block size of requests to the plugin, a power of two up to 64
// KiB; maxData, the longest read, write or cache request; maxLength, the longest trim or zeroing.
// The plugin's own block sizes are the defaults. nullptr, with a message in `*error`, for an
// unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_blocksize(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error);

} // namespace asyncnbd::filters
