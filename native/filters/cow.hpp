// Clients write to a temporary file; the export behind is only read.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: blockBytes, a power of two from 4096 on; onCache: cache requests copy blocks too;
// onRead: reads do; onReadPath: reads do while a file of this name exists. nullptr, with a message
// in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_cow(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
