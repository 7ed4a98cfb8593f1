// What the stats filter writes at the end, in nbdkit's format.
#pragma once

#include <chrono>
#include <string>

#include "filters/request_counters.hpp"

namespace asyncnbd::filters {

// `share`: of the requests of one kind, the sizes and alignments of so many are told, the most
// frequent ones first; 0: those of none. `time`: since the beginning.
std::string stats_text(const RequestCounters &counters, std::chrono::microseconds time,
                       double share);

} // namespace asyncnbd::filters
