// Clients read and write blocks that are kept in a temporary file; what they have written reaches
// the disk below when they flush, or at once.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: mode, "writeback", "writethrough" or "unsafe"; blockBytes, a power of two from 4096 on;
// maxBytes, of all blocks together, 0: no limit; highPercent and lowPercent of it, where blocks
// begin and cease to go; onRead: what is read is kept, too; onReadPath: so it is while a file of
// this name exists. nullptr, with words in `*error`, if there is something else, or a value does
// not fit.
std::unique_ptr<backend::Filter>
make_cache(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
