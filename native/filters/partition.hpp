// Shows clients one partition of a disk.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: number, from 1 on; sectorBytes, 512 by default, or 4096. nullptr, with a message in
// `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_partition(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error);

} // namespace asyncnbd::filters
