// Every check a request must pass before a backend sees it: pure, and the only place for them.
#pragma once

#include <cstdint>

#include "wire/wire.hpp"

namespace asyncnbd::connection {

// What the client was told in the handshake.
struct ExportFacts {
  uint64_t size_bytes;
  uint16_t transmission_flags; // NBD_FLAG_*
  bool has_contexts = false;   // of metadata, for NBD_CMD_BLOCK_STATUS
};

// 0, or the errno the client gets instead ("Request types", "Error values"). Not for NBD_CMD_DISC.
int check_request(const wire::RequestHeader &header, const ExportFacts &facts);

} // namespace asyncnbd::connection
