// Requests that fail are tried again a few times, on the same open export.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: retries, after the first try; delayMs, before each; opens: whether opening is tried
// again, too. nullptr, with words in `*error`, if there is something else, or a value does not fit.
std::unique_ptr<backend::Filter> make_retry_request(const FilterOptions &options,
                                                    const backend::Resources &resources,
                                                    std::string *error);

} // namespace asyncnbd::filters
