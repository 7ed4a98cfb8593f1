// Clients can only read; the export behind is opened read-only too.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_readonly(const FilterOptions &options,
                                               const backend::Resources &, std::string *error);

} // namespace asyncnbd::filters
