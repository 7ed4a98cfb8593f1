// Protects parts of an export: a write that would change them fails.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: ranges, a list of words as in nbdkit: the first and the last byte as in "0-511", of which
// either may be missing; with "~" in front, everything else. nullptr, with a message in `*error`,
// for an unknown option or an invalid value.
std::unique_ptr<backend::Filter>
make_protect(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
