// Commands as nbdkit's filters see them.
#pragma once

#include <cstdint>

#include "wire/constants.hpp"

namespace asyncnbd::filters {

// The name of the callback that serves the command; "": none.
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

// Whether the command changes the disk, so that read-only clients may not send it.
constexpr bool is_change(uint16_t type) {
  return type == wire::NBD_CMD_WRITE || type == wire::NBD_CMD_TRIM ||
         type == wire::NBD_CMD_WRITE_ZEROES;
}

} // namespace asyncnbd::filters
