// Decides how cache requests are handled.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: mode, "none" (by default): clients cannot send them; "emulate": they read; "nop": they do
// nothing. nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter>
make_nocache(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
