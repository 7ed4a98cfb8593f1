// Limits what is done in parallel.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: serialize, "requests" (by default), "all-requests" or "connections". nullptr, with a
// message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_noparallel(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
