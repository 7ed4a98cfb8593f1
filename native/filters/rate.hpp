// Reads and writes are slowed down to so many bits a second.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: bits, a second, of all clients together, and connectionBits, of each; 0: no limit. Reads
// are limited by themselves, and so are writes. file and connectionFile: with a first line that, as
// long as there is such a file, says how many from now on. burstSeconds: after a rest, so much more
// may pass at once. nullptr, with words in `*error`, if there is something else, or a value does
// not fit.
std::unique_ptr<backend::Filter> make_rate(const FilterOptions &options,
                                           const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
