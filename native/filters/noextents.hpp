// Clients see all of an export as data: for what is slow or wrong in telling holes.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Without options. nullptr, with words in `*error`, if there are any.
std::unique_ptr<backend::Filter> make_noextents(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error);

} // namespace asyncnbd::filters
