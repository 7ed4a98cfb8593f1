// The stats filter's output at the end, in nbdkit's format.
#pragma once

#include <chrono>
#include <string>

#include "filters/request_counters.hpp"

namespace asyncnbd::filters {

// `share`: the share of requests of one kind whose sizes and alignments are listed, the most
// frequent first; 0: none. `time`: since the beginning.
std::string stats_text(const RequestCounters &counters, std::chrono::microseconds time,
                       double share);

} // namespace asyncnbd::filters
