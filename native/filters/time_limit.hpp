// Disconnects a client that stays too long.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: timeMs, 60000 by default; 0: no limit. nullptr, with a message in `*error`, for an
// unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_time_limit(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
