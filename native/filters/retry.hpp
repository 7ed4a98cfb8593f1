// When a request fails, what is behind is closed and opened anew, and the request is tried again.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: retries, after the first try; delayMs, before the first of them; exponential: each delay
// is twice the one before; readonly: once something has failed, what is behind is only read.
// nullptr, with words in `*error`, if there is something else, or a value does not fit.
std::unique_ptr<backend::Filter>
make_retry(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
