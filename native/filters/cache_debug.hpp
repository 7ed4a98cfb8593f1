// What the debug flag cache.verbose tells: which blocks a request finds cached, and what becomes of
// them.
#pragma once

#include "backend/request.hpp"
#include "filters/cache_client.hpp"

namespace asyncnbd::filters {

// As it comes.
void log_request(const CacheClient &client, const backend::Request &request);
// Of blocks, what is done with them.
void log_blocks(const CacheClient &client, const char *what, uint64_t first, uint64_t last);
// Blocks begin to go, or cease to.
void log_reclaiming(const CacheClient &client, bool begins);

} // namespace asyncnbd::filters
