// What is behind is opened once, for all clients, and stays open until the server ends.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Without options. nullptr, with words in `*error`, if there are any.
std::unique_ptr<backend::Filter> make_openonce(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error);

} // namespace asyncnbd::filters
