// Parts of an export keep what they are: a write that would change them fails.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: ranges, a list of words as nbdkit's: the first and the last byte as in "0-511", of which
// either may be missing; or "~" before them for all but those. nullptr, with words in `*error`, if
// there is something else.
std::unique_ptr<backend::Filter>
make_protect(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
