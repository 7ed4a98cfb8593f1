// Commands as nbdkit's filters meet them.
#pragma once

#include <cstdint>

#include "backend/backend.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

// Of the callback that serves the command; "": none does.
constexpr const char *callback_name(uint16_t type) {
  switch (type) {
  case wire::NBD_CMD_READ:
    return "pread";
  case wire::NBD_CMD_WRITE:
    return "pwrite";
  case wire::NBD_CMD_FLUSH:
    return "flush";
  case wire::NBD_CMD_TRIM:
    return "trim";
  case wire::NBD_CMD_CACHE:
    return "cache";
  case wire::NBD_CMD_WRITE_ZEROES:
    return "zero";
  case wire::NBD_CMD_BLOCK_STATUS:
    return "extents";
  default:
    return "";
  }
}

// Of a layer with an emulation in front of it: it sees zeroing, caching and extents as what is
// below can serve them, as nbdkit's filters do, and leaves durable writes to what is there.
constexpr backend::CallLimits AS_IF_BELOW = [] {
  backend::CallLimits limits;
  limits.emulates_fua = true;
  return limits;
}();

} // namespace asyncnbd::filters
