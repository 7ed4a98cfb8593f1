// Decides which clients are let in, by their address, or by their process on this machine.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: allow and deny, lists of rules as in nbdkit's parameters of these names. A client that
// matches neither list is let in, and so is one that matches both. nullptr, with a message in
// `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_ip(const FilterOptions &options,
                                         const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
