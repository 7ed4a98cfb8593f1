// The log lines of the debug flag cow.verbose: which blocks a request finds copied, and what it
// does to them.
#pragma once

#include "backend/request.hpp"
#include "filters/cow_client.hpp"

namespace asyncnbd::filters {

// When a request arrives.
void log_request(const CowClient &client, const backend::Request &request);
// For blocks that a read or a cache request has copied.
void log_copied(const CowClient &client, uint64_t first, uint64_t last);

} // namespace asyncnbd::filters
