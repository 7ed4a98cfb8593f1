// What becomes of requests to cache.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: mode, what clients can ask for: "none" (by default), "emulate", which reads, or "nop",
// which does nothing. nullptr, with words in `*error`, if there is something else.
std::unique_ptr<backend::Filter>
make_nocache(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
