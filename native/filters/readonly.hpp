// Clients only read; what is behind is opened so, too.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Without options. nullptr, with words in `*error`, if there are any.
std::unique_ptr<backend::Filter> make_readonly(const FilterOptions &options,
                                               const backend::Resources &, std::string *error);

} // namespace asyncnbd::filters
