// What the debug flag cow.verbose tells: which blocks a request finds copied, and what it does to
// them.
#pragma once

#include "backend/request.hpp"
#include "filters/cow_client.hpp"

namespace asyncnbd::filters {

// As it comes.
void log_request(const CowClient &client, const backend::Request &request);
// Of blocks that a read has fetched, or a request to cache.
void log_copied(const CowClient &client, uint64_t first, uint64_t last);

} // namespace asyncnbd::filters
