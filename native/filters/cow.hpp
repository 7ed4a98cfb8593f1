// Clients write to a temporary file; what is behind is only read.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: blockBytes, a power of two from 4096 on; onCache: a request to cache copies, too;
// onRead: so does a read; onReadPath: so it does while a file of this name exists. nullptr, with
// words in
// `*error`, if there is something else, or a value does not fit.
std::unique_ptr<backend::Filter> make_cow(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
