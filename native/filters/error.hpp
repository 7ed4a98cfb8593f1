// Makes requests fail, sometimes or always, before they reach the export behind: to test clients.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options, for each of pread, pwrite, flush, trim, cache, zero and extents, as in preadCode: …Code,
// the name of an error, by default EIO; …Rate, the share that fails, from 0 (by default) to 1;
// …File: they fail only while this file exists. nullptr, with a message in `*error`, for an unknown
// option or an invalid value.
std::unique_ptr<backend::Filter>
make_error(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
