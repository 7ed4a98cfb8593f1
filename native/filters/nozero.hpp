// Decides how zero requests are handled.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: mode, "none" (by default), "emulate", "notrim" or "plugin"; fast, "default", "none",
// "slow" or "ignore". nullptr, with a message in `*error`, for an unknown option or an invalid
// value.
std::unique_ptr<backend::Filter>
make_nozero(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
