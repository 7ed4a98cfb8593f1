// Reads a little of what is below while a client's export is opened, and waits for it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.hpp"

namespace asyncnbd::filters {

// Of a backend that is prepared and has so much; may block. `bytes`: filled with its data. Returns
// an errno.
int read_now(backend::Backend &below, uint64_t offset, std::vector<uint8_t> *bytes);

} // namespace asyncnbd::filters
