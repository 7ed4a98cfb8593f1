// Which clients are let in, by their address, or the process that they are on this machine.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: allow and deny, lists of what nbdkit's parameters of these names may be. Whom no rule of
// either fits is let in, as is who is allowed and denied. nullptr, with words in `*error`, if there
// is something else.
std::unique_ptr<backend::Filter> make_ip(const FilterOptions &options,
                                         const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
