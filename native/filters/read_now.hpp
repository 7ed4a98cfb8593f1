// Reads a little of what is below while a client's export is opened, and waits for it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.hpp"
#include "host/context.hpp"

namespace asyncnbd::filters {

// Of a backend that is prepared and has so much; may block. `bytes`: filled with its data. Returns
// an errno. The client does not have the backend yet: should it hang up or the server stop
// meanwhile, this tells what is below, and gives up in time.
int read_now(const std::shared_ptr<backend::Backend> &below, const host::CallContext &context,
             uint64_t offset, std::vector<uint8_t> *bytes);

} // namespace asyncnbd::filters
