// What becomes of writes that are to be durable when they are answered.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: mode, "none" (by default), "emulate", "native", "force", "pass" or "discard". nullptr,
// with words in `*error`, if there is something else.
std::unique_ptr<backend::Filter> make_fua(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
