// Opens the export behind once for all clients, and keeps it open until the server ends.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_openonce(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error);

} // namespace asyncnbd::filters
