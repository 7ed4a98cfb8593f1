// Sets which exports clients see: which names are listed and allowed, the default one, and their
// descriptions.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: defaultExport; list, "keep" (by default), "error", "empty", "defaultonly" or "explicit";
// strict; names; description, "keep" (by default), "none", "fixed:TEXT" or "script:COMMANDS".
// nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_exportname(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error);

} // namespace asyncnbd::filters
