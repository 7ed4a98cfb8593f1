// Replies as a simulated client gets them: simple, or in chunks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "wire/wire.hpp"

namespace simulation {

// What a client has asked for, and what of it has come.
struct Asked {
  uint16_t type = 0;
  uint16_t flags = 0; // NBD_CMD_FLAG_*
  uint64_t offset = 0;
  uint32_t length_bytes = 0;
  uint64_t received_bytes = 0; // of a read, or of a status
  unsigned chunks = 0;         // that it has come in, or extents of a status
  uint32_t error = 0;
  uint32_t expected_error = 0;     // whatever the disk says; 0: it is the disk that says
  std::vector<uint64_t> durable{}; // of a flush: see Durable::needed
};

constexpr size_t MAGIC_BYTES = 4;

// A request's header, as clients of this style send it.
std::vector<uint8_t> encode_header(asyncnbd::wire::ReplyStyle style, uint64_t cookie,
                                   const Asked &asked);

// How many bytes the header has that begins with this magic; 0: none begins so.
size_t reply_header_bytes(asyncnbd::wire::ReplyStyle style, const uint8_t *magic);

// A simple reply, or one chunk.
struct Reply {
  bool is_simple;
  bool is_last; // of the request
  uint16_t type;
  uint32_t error; // of a simple reply
  uint64_t cookie;
  uint64_t payload_bytes; // behind the header; of a simple reply, a read's is its length
};

Reply decode_reply(asyncnbd::wire::ReplyStyle style, const uint8_t *header);

// Ends the run, with words, if the payload is not what belongs there.
void take_payload(const Reply &reply, const std::vector<uint8_t> &payload, Asked *asked);

} // namespace simulation
