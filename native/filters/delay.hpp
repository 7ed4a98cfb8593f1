// Requests reach what is behind only after a while.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: readMs, writeMs, flushMs, trimMs, zeroMs, extentsMs, cacheMs, openMs and closeMs;
// fastZero: whether a fast zero waits as any other (else it is refused at once, if zeroing is
// delayed). nullptr, with words in `*error`, if there is something else, or a value does not fit.
std::unique_ptr<backend::Filter>
make_delay(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
