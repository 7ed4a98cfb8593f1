// A flush of one client is one of all, so that a client may use several connections.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: mode, "auto" (by default), "emulate", "plugin", "disable" or "unsafe"; trackDirty,
// "connection" (by default), "fast" or "off"; byExportName, whether only clients of one name belong
// together. nullptr, with words in `*error`, if there is something else.
std::unique_ptr<backend::Filter> make_multi_conn(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
