// The NBD protocol's numbers under the names the specification gives them (doc/proto.md of the
// NetworkBlockDevice/nbd repository). src/protocol.ts has the handshake's; a test
// compares what both define.
#pragma once

#include <cstddef>
#include <cstdint>

namespace asyncnbd::wire {

// "Request message" and "Simple reply message".
constexpr uint32_t NBD_REQUEST_MAGIC = 0x25609513;
constexpr uint32_t NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
constexpr size_t REQUEST_HEADER_BYTES = 28;
constexpr size_t SIMPLE_REPLY_BYTES = 16;

// "Request message" and "Extended reply chunk message" (the extended headers of the
// specification's branch extension-ext-header).
constexpr uint32_t NBD_EXTENDED_REQUEST_MAGIC = 0x21e41c71;
constexpr uint32_t NBD_EXTENDED_REPLY_MAGIC = 0x6e8a278c;
constexpr size_t EXTENDED_REQUEST_BYTES = 32;
constexpr size_t EXTENDED_CHUNK_HEADER_BYTES = 32;

// "Structured reply chunk message", "Structured reply flags", "Structured reply types".
constexpr uint32_t NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
constexpr uint16_t NBD_REPLY_FLAG_DONE = 1 << 0;
constexpr uint16_t NBD_REPLY_TYPE_NONE = 0;
constexpr uint16_t NBD_REPLY_TYPE_OFFSET_DATA = 1;
constexpr uint16_t NBD_REPLY_TYPE_OFFSET_HOLE = 2;
constexpr uint16_t NBD_REPLY_TYPE_BLOCK_STATUS = 5;
constexpr uint16_t NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6;
constexpr uint16_t NBD_REPLY_TYPE_ERROR = (1 << 15) + 1;
constexpr uint16_t NBD_REPLY_TYPE_ERROR_OFFSET = (1 << 15) + 2;
constexpr size_t CHUNK_HEADER_BYTES = 20;
// What chunks begin with behind their headers.
constexpr size_t DATA_PREFIX_BYTES = 8;
constexpr size_t HOLE_BYTES = 12;
constexpr size_t ERROR_PREFIX_BYTES = 6;

// "NBD_REPLY_TYPE_BLOCK_STATUS": servers should not send more extents in a chunk.
constexpr size_t MAX_EXTENTS = 1 << 20;

// "Command flags".
constexpr uint16_t NBD_CMD_FLAG_FUA = 1 << 0;
constexpr uint16_t NBD_CMD_FLAG_NO_HOLE = 1 << 1;
constexpr uint16_t NBD_CMD_FLAG_DF = 1 << 2;
constexpr uint16_t NBD_CMD_FLAG_REQ_ONE = 1 << 3;
constexpr uint16_t NBD_CMD_FLAG_FAST_ZERO = 1 << 4;
constexpr uint16_t NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5;

// "Transmission flags".
constexpr uint16_t NBD_FLAG_HAS_FLAGS = 1 << 0;
constexpr uint16_t NBD_FLAG_READ_ONLY = 1 << 1;
constexpr uint16_t NBD_FLAG_SEND_FLUSH = 1 << 2;
constexpr uint16_t NBD_FLAG_SEND_FUA = 1 << 3;
constexpr uint16_t NBD_FLAG_ROTATIONAL = 1 << 4;
constexpr uint16_t NBD_FLAG_SEND_TRIM = 1 << 5;
constexpr uint16_t NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
constexpr uint16_t NBD_FLAG_SEND_DF = 1 << 7;
constexpr uint16_t NBD_FLAG_CAN_MULTI_CONN = 1 << 8;
constexpr uint16_t NBD_FLAG_SEND_CACHE = 1 << 10;
constexpr uint16_t NBD_FLAG_SEND_FAST_ZERO = 1 << 11;
constexpr uint16_t NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12;

// "Error values".
constexpr uint32_t NBD_SUCCESS = 0;
constexpr uint32_t NBD_EPERM = 1;
constexpr uint32_t NBD_EIO = 5;
constexpr uint32_t NBD_ENOMEM = 12;
constexpr uint32_t NBD_EINVAL = 22;
constexpr uint32_t NBD_ENOSPC = 28;
constexpr uint32_t NBD_EOVERFLOW = 75;
constexpr uint32_t NBD_ENOTSUP = 95;
constexpr uint32_t NBD_ESHUTDOWN = 108;

// The longest READ or WRITE served, as nbdkit's; the specification asks for at least 32 MiB.
constexpr uint32_t MAX_PAYLOAD_BYTES = 64u << 20;

// "Conventions": a string MUST be no longer than this.
constexpr size_t MAX_STRING_BYTES = 4096;

} // namespace asyncnbd::wire
