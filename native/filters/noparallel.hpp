// Less is done at once than what is behind could do.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: serialize, "requests" (by default), "all-requests" or "connections". nullptr, with words
// in `*error`, if there is something else.
std::unique_ptr<backend::Filter> make_noparallel(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
