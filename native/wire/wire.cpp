// See wire.hpp.
#include "wire/wire.hpp"
#include "wire/commands.hpp"

#include <cerrno>
#include <cstring>
#include <endian.h>

namespace asyncnbd::wire {

namespace {

template <typename T> T load(const uint8_t *bytes) {
  T value;
  memcpy(&value, bytes, sizeof value); // the buffer has no particular alignment
  return value;
}

template <typename T> void store(uint8_t *bytes, T value) {
  memcpy(bytes, &value, sizeof value);
}

} // namespace

bool decode_request(const uint8_t *bytes, ReplyStyle style, RequestHeader *header) {
  const bool is_extended = style == ReplyStyle::extended;
  if (decode_u32(bytes) != (is_extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
    return false;
  header->flags = be16toh(load<uint16_t>(bytes + 4));
  header->type = be16toh(load<uint16_t>(bytes + 6));
  header->cookie = load<uint64_t>(bytes + 8);
  header->offset = decode_u64(bytes + 16);
  header->length_bytes = is_extended ? decode_u64(bytes + 24) : decode_u32(bytes + 24);
  return true;
}

uint64_t payload_bytes(const RequestHeader &header, ReplyStyle style) {
  const bool has_payload = style == ReplyStyle::extended
                               ? (header.flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0
                               : header.type == NBD_CMD_WRITE;
  return has_payload ? header.length_bytes : 0;
}

void encode_simple_reply(uint8_t *bytes, uint64_t cookie, uint32_t error) {
  encode_u32(bytes, NBD_SIMPLE_REPLY_MAGIC);
  encode_u32(bytes + 4, error);
  store(bytes + 8, cookie);
}

void encode_chunk_header(uint8_t *bytes, ReplyStyle style, const ChunkHeader &header) {
  const bool is_extended = style == ReplyStyle::extended;
  encode_u32(bytes, is_extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
  encode_u16(bytes + 4, header.flags);
  encode_u16(bytes + 6, header.type);
  store(bytes + 8, header.cookie);
  if (is_extended) {
    encode_u64(bytes + 16, header.request_offset);
    encode_u64(bytes + 24, header.payload_bytes);
  } else {
    encode_u32(bytes + 16, static_cast<uint32_t>(header.payload_bytes));
  }
}

void encode_u16(uint8_t *bytes, uint16_t value) {
  store(bytes, htobe16(value));
}

void encode_u32(uint8_t *bytes, uint32_t value) {
  store(bytes, htobe32(value));
}

void encode_u64(uint8_t *bytes, uint64_t value) {
  store(bytes, htobe64(value));
}

uint32_t decode_u32(const uint8_t *bytes) {
  return be32toh(load<uint32_t>(bytes));
}

uint64_t decode_u64(const uint8_t *bytes) {
  return be64toh(load<uint64_t>(bytes));
}

uint32_t error_from_errno(int error, uint16_t command_flags) {
  switch (error) {
  case 0:
    return NBD_SUCCESS;
  case EPERM:
  case EROFS:
    return NBD_EPERM;
  case EIO:
    return NBD_EIO;
  case ENOMEM:
    return NBD_ENOMEM;
  case ENOSPC:
  case EDQUOT:
  case EFBIG:
    return NBD_ENOSPC;
  case ESHUTDOWN:
    return NBD_ESHUTDOWN;
  case ENOTSUP: // EOPNOTSUPP is the same number on Linux
    return command_flags & NBD_CMD_FLAG_FAST_ZERO ? NBD_ENOTSUP : NBD_EINVAL;
  case EOVERFLOW:
    return command_flags & NBD_CMD_FLAG_DF ? NBD_EOVERFLOW : NBD_EINVAL;
  default:
    return NBD_EINVAL;
  }
}

} // namespace asyncnbd::wire
