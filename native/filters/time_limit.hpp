// A client that is there for too long is disconnected.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: timeMs, 60000 by default; 0: no limit. nullptr, with words in `*error`, if there is
// something else.
std::unique_ptr<backend::Filter> make_time_limit(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
