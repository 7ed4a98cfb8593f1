// Which exports there are for clients: which names are listed and let in, what the default one is
// called, and how they are described.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: defaultExport; list, "keep" (by default), "error", "empty", "defaultonly" or "explicit";
// strict; names; description, "keep" (by default), "none", "fixed:TEXT" or "script:COMMANDS".
// nullptr, with words in `*error`, if there is something else.
std::unique_ptr<backend::Filter> make_exportname(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
