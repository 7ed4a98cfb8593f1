// Keeps blocks that clients read and write in a temporary file; written data reaches the disk below
// when they flush, or at once.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: mode, "writeback", "writethrough" or "unsafe"; blockBytes, a power of two from 4096 on;
// maxBytes, for all blocks together, 0: no limit; highPercent and lowPercent of it, where dropping
// of blocks begins and ends; onRead: blocks that are read are kept too; onReadPath: only while a
// file of this name exists. nullptr, with a message in `*error`, for an unknown option or an
// invalid value.
std::unique_ptr<backend::Filter>
make_cache(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
