// The filters that come with the server, by name. Each has a file, which describes its options at
// the end.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// nullptr, with a message in `*error`, for an unknown name or wrong options. `resources` outlive
// the filter.
std::unique_ptr<backend::Filter> make_filter(const std::string &name, const FilterOptions &options,
                                             const backend::Resources &resources,
                                             std::string *error);

// Of one name.
using FilterMaker = std::unique_ptr<backend::Filter>(const FilterOptions &options,
                                                     const backend::Resources &resources,
                                                     std::string *error);

#define FILTER(name, make) FilterMaker make;
#include "filters/registry.inc"
#undef FILTER

} // namespace asyncnbd::filters
