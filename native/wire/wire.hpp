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
  uint64_t length_bytes; // of the effect, or of the payload: see payload_bytes
};

// How a client is answered, and, if `extended`, how it asks: agreed on in the handshake.
enum class ReplyStyle : uint8_t { simple, structured, extended };

constexpr size_t request_header_bytes(ReplyStyle style) {
  return style == ReplyStyle::extended ? EXTENDED_REQUEST_BYTES : REQUEST_HEADER_BYTES;
}

constexpr size_t chunk_header_bytes(ReplyStyle style) {
  return style == ReplyStyle::extended ? EXTENDED_CHUNK_HEADER_BYTES : CHUNK_HEADER_BYTES;
}

// Decodes request_header_bytes(style) bytes; false if they do not begin with the magic of such a
// request, after which the stream cannot be followed any more.
bool decode_request(const uint8_t *bytes, ReplyStyle style, RequestHeader *header);

// How many bytes of payload follow the header.
uint64_t payload_bytes(const RequestHeader &header, ReplyStyle style);

// Encodes SIMPLE_REPLY_BYTES bytes. `cookie` is a RequestHeader's; `error` one of NBD_E*.
void encode_simple_reply(uint8_t *bytes, uint64_t cookie, uint32_t error);

// Of one chunk of a structured or extended reply, without what is in its payload.
struct ChunkHeader {
  uint16_t flags; // NBD_REPLY_FLAG_*
  uint16_t type;  // NBD_REPLY_TYPE_*
  uint64_t cookie;
  uint64_t request_offset; // extended replies repeat it
  uint64_t payload_bytes;
};

// Encodes chunk_header_bytes(style) bytes; `style` is not simple.
void encode_chunk_header(uint8_t *bytes, ReplyStyle style, const ChunkHeader &header);

// Numbers of payloads, in network byte order.
void encode_u16(uint8_t *bytes, uint16_t value);
void encode_u32(uint8_t *bytes, uint32_t value);
void encode_u64(uint8_t *bytes, uint64_t value);
uint32_t decode_u32(const uint8_t *bytes);
uint64_t decode_u64(const uint8_t *bytes);

// The NBD error that tells a client about an errno of the system ("Error values": the server
// must not send others, ENOTSUP is for NBD_CMD_FLAG_FAST_ZERO and EOVERFLOW for
// NBD_CMD_FLAG_DF only).
uint32_t error_from_errno(int error, uint16_t command_flags);

} // namespace asyncnbd::wire
