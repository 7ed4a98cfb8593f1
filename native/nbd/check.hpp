// Every check a request must pass before a backend sees it: pure, and the only place for them.
#pragma once

#include <cstdint>
#include <vector>

#include "wire/commands.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::nbd {

// A metadata context that the client has selected.
struct MetaContext {
  uint32_t id;     // the client's
  uint32_t number; // backend::ContextStatus::context
};

// What the client was told in the handshake.
struct ExportFacts {
  uint64_t size_bytes;
  uint16_t transmission_flags;       // NBD_FLAG_*
  std::vector<MetaContext> contexts; // for NBD_CMD_BLOCK_STATUS
  uint32_t block_bytes = 1;          // the smallest it may read or write, a power of two
  uint32_t max_payload_bytes = wire::MAX_PAYLOAD_BYTES;
  // Whether requests must keep to these two. nbdkit leaves that to its plugins, some of which
  // announce what is merely better for them, and many clients do not look.
  bool block_sizes_bind = true;
};

// 0, or the errno the client gets instead ("Request types", "Error values"). Not for NBD_CMD_DISC.
// A NBD_CMD_BLOCK_STATUS with a payload has no range yet: check it again when that is known.
int check_request(const wire::RequestHeader &header, wire::ReplyStyle style,
                  const ExportFacts &facts);

} // namespace asyncnbd::nbd
