// See wire.hpp.
#include "wire/wire.hpp"

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

bool decode_request(const uint8_t *bytes, RequestHeader *header) {
  if (be32toh(load<uint32_t>(bytes)) != NBD_REQUEST_MAGIC)
    return false;
  header->flags = be16toh(load<uint16_t>(bytes + 4));
  header->type = be16toh(load<uint16_t>(bytes + 6));
  header->cookie = load<uint64_t>(bytes + 8);
  header->offset = be64toh(load<uint64_t>(bytes + 16));
  header->length_bytes = be32toh(load<uint32_t>(bytes + 24));
  return true;
}

void encode_simple_reply(uint8_t *bytes, uint64_t cookie, uint32_t error) {
  store(bytes, htobe32(NBD_SIMPLE_REPLY_MAGIC));
  store(bytes + 4, htobe32(error));
  store(bytes + 8, cookie);
}

namespace {

void encode_chunk(uint8_t *bytes, uint16_t type, uint64_t cookie, size_t payload_bytes) {
  store(bytes, htobe32(NBD_STRUCTURED_REPLY_MAGIC));
  store(bytes + 4, htobe16(NBD_REPLY_FLAG_DONE));
  store(bytes + 6, htobe16(type));
  store(bytes + 8, cookie);
  store(bytes + 16, htobe32(static_cast<uint32_t>(payload_bytes)));
}

} // namespace

void encode_data_chunk(uint8_t *bytes, uint64_t cookie, uint64_t offset, uint32_t data_bytes) {
  encode_chunk(bytes, NBD_REPLY_TYPE_OFFSET_DATA, cookie, size_t{8} + data_bytes);
  store(bytes + CHUNK_HEADER_BYTES, htobe64(offset));
}

void encode_status_chunk(uint8_t *bytes, uint64_t cookie, uint32_t context, size_t extents) {
  encode_chunk(bytes, NBD_REPLY_TYPE_BLOCK_STATUS, cookie, 4 + extents * EXTENT_BYTES);
  store(bytes + CHUNK_HEADER_BYTES, htobe32(context));
}

void encode_error_chunk(uint8_t *bytes, uint64_t cookie, uint32_t error, size_t message_bytes) {
  encode_chunk(bytes, NBD_REPLY_TYPE_ERROR, cookie, 6 + message_bytes);
  store(bytes + CHUNK_HEADER_BYTES, htobe32(error));
  store(bytes + CHUNK_HEADER_BYTES + 4, htobe16(static_cast<uint16_t>(message_bytes)));
}

void encode_extent(uint8_t *bytes, uint32_t length_bytes, uint32_t flags) {
  store(bytes, htobe32(length_bytes));
  store(bytes + 4, htobe32(flags));
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

const char *command_name(uint16_t type) {
  switch (type) {
  case NBD_CMD_READ:
    return "read";
  case NBD_CMD_WRITE:
    return "write";
  case NBD_CMD_DISC:
    return "disconnect";
  case NBD_CMD_FLUSH:
    return "flush";
  case NBD_CMD_TRIM:
    return "trim";
  case NBD_CMD_CACHE:
    return "cache";
  case NBD_CMD_WRITE_ZEROES:
    return "write zeroes";
  case NBD_CMD_BLOCK_STATUS:
    return "block status";
  default:
    return "unknown";
  }
}

} // namespace asyncnbd::wire
