// See replies.hpp.
#include "replies.hpp"

#include <cstring>
#include <endian.h>

#include "../support.hpp"
#include "content.hpp"
#include "fibers.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace simulation {

using namespace asyncnbd;
using namespace asyncnbd::wire;

namespace {

template <typename Number> Number load(const uint8_t *from) {
  Number number;
  memcpy(&number, from, sizeof number);
  return number;
}

void take_data(uint64_t offset, const uint8_t *data, uint64_t length_bytes, Asked *asked) {
  const bool is_inside = asked->type == NBD_CMD_READ && offset >= asked->offset &&
                         offset - asked->offset + length_bytes <= asked->length_bytes;
  if (!is_inside)
    fail("data comes that was not asked for");
  if (data == nullptr ? !is_all_holes(offset, length_bytes)
                      : !is_filled(data, offset, length_bytes))
    fail("a read at %llu gets other bytes", static_cast<unsigned long long>(offset));
  asked->received_bytes += length_bytes;
  asked->chunks++;
}

// An extent begins where the last one has ended.
void take_extent(uint64_t length_bytes, uint64_t flags, Asked *asked) {
  const uint64_t begin = asked->offset + asked->received_bytes;
  const bool is_right = flags == 0 ? is_all_data(begin, length_bytes)
                                   : flags == 3 && is_all_holes(begin, length_bytes);
  if (asked->type != NBD_CMD_BLOCK_STATUS || length_bytes == 0 || !is_right ||
      asked->received_bytes >= asked->length_bytes)
    fail("an extent at %llu is wrong", static_cast<unsigned long long>(begin));
  asked->received_bytes += length_bytes;
  asked->chunks++;
}

void take_status(ReplyStyle style, const std::vector<uint8_t> &payload, Asked *asked) {
  const bool is_extended = style == ReplyStyle::extended;
  const size_t prefix_bytes = is_extended ? 8 : 4;
  const size_t extent_bytes = is_extended ? 16 : 8;
  if (payload.size() <= prefix_bytes || (payload.size() - prefix_bytes) % extent_bytes != 0 ||
      decode_u32(payload.data()) != CONTEXT_ID)
    fail("a status has another length or context");
  for (size_t at = prefix_bytes; at < payload.size(); at += extent_bytes) {
    const uint8_t *extent = payload.data() + at;
    if (is_extended)
      take_extent(decode_u64(extent), decode_u64(extent + 8), asked);
    else
      take_extent(decode_u32(extent), decode_u32(extent + 4), asked);
  }
}

// Where it has an offset, that is of what is broken.
void take_error(const std::vector<uint8_t> &payload, bool has_offset, Asked *asked) {
  const size_t offset_bytes = has_offset ? 8 : 0;
  if (payload.size() < ERROR_PREFIX_BYTES + offset_bytes)
    fail("an error is too short");
  asked->error = decode_u32(payload.data());
  const size_t words = be16toh(load<uint16_t>(payload.data() + 4));
  if (asked->error == 0 || payload.size() != ERROR_PREFIX_BYTES + words + offset_bytes)
    fail("an error has no number, or another length");
  if (!has_offset)
    return;
  const uint64_t offset = decode_u64(payload.data() + ERROR_PREFIX_BYTES + words);
  const bool is_inside = offset >= asked->offset && offset - asked->offset < asked->length_bytes;
  if (!is_inside || (asked->error == NBD_EIO && !is_broken(offset)))
    fail("an error is said to be at %llu", static_cast<unsigned long long>(offset));
}

} // namespace

std::vector<uint8_t> encode_header(ReplyStyle style, uint64_t cookie, const Asked &asked) {
  std::vector<uint8_t> bytes =
      encode_request(asked.type, cookie, asked.offset, asked.length_bytes, asked.flags);
  if (style != ReplyStyle::extended)
    return bytes;
  bytes.resize(EXTENDED_REQUEST_BYTES);
  encode_u32(bytes.data(), NBD_EXTENDED_REQUEST_MAGIC);
  if (asked.type == NBD_CMD_WRITE)
    encode_u16(bytes.data() + 4, asked.flags | NBD_CMD_FLAG_PAYLOAD_LEN);
  encode_u64(bytes.data() + 24, asked.length_bytes);
  return bytes;
}

size_t reply_header_bytes(ReplyStyle style, const uint8_t *magic) {
  switch (decode_u32(magic)) {
  case NBD_SIMPLE_REPLY_MAGIC:
    return style == ReplyStyle::extended ? 0 : SIMPLE_REPLY_BYTES;
  case NBD_STRUCTURED_REPLY_MAGIC:
    return style == ReplyStyle::structured ? CHUNK_HEADER_BYTES : 0;
  case NBD_EXTENDED_REPLY_MAGIC:
    return style == ReplyStyle::extended ? EXTENDED_CHUNK_HEADER_BYTES : 0;
  default:
    return 0;
  }
}

Reply decode_reply(ReplyStyle style, const uint8_t *header) {
  const uint64_t cookie = be64toh(load<uint64_t>(header + 8));
  if (decode_u32(header) == NBD_SIMPLE_REPLY_MAGIC)
    return {true, true, NBD_REPLY_TYPE_NONE, decode_u32(header + 4), cookie, 0};
  const bool is_last = (be16toh(load<uint16_t>(header + 4)) & NBD_REPLY_FLAG_DONE) != 0;
  const uint16_t type = be16toh(load<uint16_t>(header + 6));
  const uint64_t payload_bytes =
      style == ReplyStyle::extended ? decode_u64(header + 24) : decode_u32(header + 16);
  return {false, is_last, type, 0, cookie, payload_bytes};
}

void take_payload(const Reply &reply, const std::vector<uint8_t> &payload, Asked *asked) {
  if (reply.is_simple) {
    asked->error = reply.error;
    if (!payload.empty())
      take_data(asked->offset, payload.data(), payload.size(), asked);
    return;
  }
  switch (reply.type) {
  case NBD_REPLY_TYPE_NONE:
    if (!payload.empty() || !reply.is_last)
      fail("a chunk without a type has content, or is not the last");
    break;
  case NBD_REPLY_TYPE_OFFSET_DATA:
    if (payload.size() <= DATA_PREFIX_BYTES)
      fail("a chunk has no data");
    take_data(decode_u64(payload.data()), payload.data() + DATA_PREFIX_BYTES,
              payload.size() - DATA_PREFIX_BYTES, asked);
    break;
  case NBD_REPLY_TYPE_OFFSET_HOLE:
    if (payload.size() != HOLE_BYTES)
      fail("a hole has another length");
    take_data(decode_u64(payload.data()), nullptr, decode_u32(payload.data() + 8), asked);
    break;
  case NBD_REPLY_TYPE_BLOCK_STATUS:
    take_status(ReplyStyle::structured, payload, asked);
    break;
  case NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
    take_status(ReplyStyle::extended, payload, asked);
    break;
  case NBD_REPLY_TYPE_ERROR:
    take_error(payload, false, asked);
    break;
  case NBD_REPLY_TYPE_ERROR_OFFSET:
    take_error(payload, true, asked);
    break;
  default:
    fail("a chunk is of type %u", reply.type);
  }
}

} // namespace simulation
