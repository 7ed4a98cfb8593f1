// Request headers from bytes and reply headers to bytes: pure functions, no I/O, no allocation.
#pragma once

#include <cstdint>

#include "wire/constants.hpp"

namespace asyncnbd::wire {

struct RequestHeader {
  uint16_t flags;
  uint16_t type;
  uint64_t cookie; // opaque: kept in wire byte order, echoed as it came
  uint64_t offset;
  uint32_t length_bytes;
};

// Decodes REQUEST_HEADER_BYTES bytes; false if they do not begin with NBD_REQUEST_MAGIC, after
// which the stream cannot be followed any more.
bool decode_request(const uint8_t *bytes, RequestHeader *header);

// Encodes SIMPLE_REPLY_BYTES bytes. `cookie` is a RequestHeader's; `error` one of NBD_E*.
void encode_simple_reply(uint8_t *bytes, uint64_t cookie, uint32_t error);

// Encode the only chunks of structured replies up to what is of variable length, which follows:
// OFFSET_DATA_BYTES, BLOCK_STATUS_BYTES, and ERROR_BYTES bytes.
void encode_data_chunk(uint8_t *bytes, uint64_t cookie, uint64_t offset, uint32_t data_bytes);
void encode_status_chunk(uint8_t *bytes, uint64_t cookie, uint32_t context, size_t extents);
void encode_error_chunk(uint8_t *bytes, uint64_t cookie, uint32_t error, size_t message_bytes);

// Encodes EXTENT_BYTES bytes.
void encode_extent(uint8_t *bytes, uint32_t length_bytes, uint32_t flags);

// The NBD error that tells a client about an errno of the system ("Error values": the server
// must not send others, ENOTSUP is for NBD_CMD_FLAG_FAST_ZERO and EOVERFLOW for
// NBD_CMD_FLAG_DF only).
uint32_t error_from_errno(int error, uint16_t command_flags);

// "read", "write zeroes", … for messages; "unknown" for other numbers.
const char *command_name(uint16_t type);

} // namespace asyncnbd::wire
