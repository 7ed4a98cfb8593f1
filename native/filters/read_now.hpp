// Reads a little from the backend below while a client's export is opened, and waits for it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.hpp"
#include "host/context.hpp"

namespace asyncnbd::filters {

// Fills `bytes`, and returns 0 or an errno. May block. The backend must be prepared and have that
// many bytes. As its client does not have the backend yet, this tells the backend if the client
// hangs up or the server stops meanwhile, and gives up in time.
int read_now(const std::shared_ptr<backend::Backend> &below, const host::CallContext &context,
             uint64_t offset, std::vector<uint8_t> *bytes);

} // namespace asyncnbd::filters
