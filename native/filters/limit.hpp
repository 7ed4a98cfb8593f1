// So many clients at once, and no more.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: limit, 1 by default; 0: any number. nullptr, with words in `*error`, if there is
// something else.
std::unique_ptr<backend::Filter>
make_limit(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
