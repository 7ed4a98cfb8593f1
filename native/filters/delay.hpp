// Delays requests before they reach the export behind.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: readMs, writeMs, flushMs, trimMs, zeroMs, extentsMs, cacheMs, openMs and closeMs;
// fastZero: whether a fast zero waits like any other (otherwise it is refused at once if zeroing is
// delayed). nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter>
make_delay(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
