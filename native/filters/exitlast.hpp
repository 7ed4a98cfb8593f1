// The server ends when its last client has left.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Without options. nullptr, with words in `*error`, if there are any.
std::unique_ptr<backend::Filter> make_exitlast(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error);

} // namespace asyncnbd::filters
