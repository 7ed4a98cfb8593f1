// Decides how FUA writes, which must be durable when they are answered, are handled.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: mode, "none" (by default), "emulate", "native", "force", "pass" or "discard". nullptr,
// with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_fua(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
