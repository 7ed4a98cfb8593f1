// The server ends when something has happened, and no client is there any more.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: filesCreated, filesDeleted, pipesClosed, processesExit and scripts, lists of what
// ExitEventNames has; pollMs, 60000 by default. nullptr, with words in `*error`, if there is
// something else.
std::unique_ptr<backend::Filter> make_exitwhen(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error);

} // namespace asyncnbd::filters
