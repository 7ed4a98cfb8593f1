// Limits reads and writes to a number of bits per second.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: bits per second for all clients together, and connectionBits for each; 0: no limit.
// Reads and writes are limited separately. file and connectionFile: while such a file exists, its
// first line sets the limit. burstSeconds: after a pause, this much may pass at once. nullptr, with
// a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_rate(const FilterOptions &options,
                                           const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
