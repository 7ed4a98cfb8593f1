// Ends the server when something has happened and all clients have left.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: filesCreated, filesDeleted, pipesClosed, processesExit and scripts, lists as in
// ExitEventNames; pollMs, 60000 by default. nullptr, with a message in `*error`, for an unknown
// option or an invalid value.
std::unique_ptr<backend::Filter> make_exitwhen(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error);

} // namespace asyncnbd::filters
