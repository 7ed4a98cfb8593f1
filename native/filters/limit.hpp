// Limits the number of clients at once.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: limit, 1 by default; 0: any number. nullptr, with a message in `*error`, for an unknown
// option or an invalid value.
std::unique_ptr<backend::Filter>
make_limit(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
