// The log lines of the debug flag cache.verbose: which blocks a request finds cached, and what
// happens to them.
#pragma once

#include "backend/request.hpp"
#include "filters/cache_client.hpp"

namespace asyncnbd::filters {

// When a request arrives.
void log_request(const CacheClient &client, const backend::Request &request);
// What is done with blocks.
void log_blocks(const CacheClient &client, const char *what, uint64_t first, uint64_t last);
// Dropping of blocks begins or ends.
void log_reclaiming(const CacheClient &client, bool begins);

} // namespace asyncnbd::filters
