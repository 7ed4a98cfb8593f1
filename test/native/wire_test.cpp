// Request and reply headers, byte for byte.
#include <doctest/doctest.h>

#include <cerrno>

#include "support.hpp"
#include "wire/commands.hpp"

using namespace asyncnbd::wire;

TEST_CASE("a request header is decoded field by field") {
  auto bytes = encode_request(NBD_CMD_WRITE_ZEROES, 0x0102030405060708, 0x1122334455667788,
                              0xcafebabe, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE);
  RequestHeader header;
  REQUIRE(decode_request(bytes.data(), ReplyStyle::structured, &header));
  CHECK(header.type == NBD_CMD_WRITE_ZEROES);
  CHECK(header.flags == (NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE));
  CHECK(header.offset == 0x1122334455667788);
  CHECK(header.length_bytes == 0xcafebabe);
  CHECK(payload_bytes(header, ReplyStyle::simple) == 0);
  header.type = NBD_CMD_WRITE;
  CHECK(payload_bytes(header, ReplyStyle::simple) == 0xcafebabe);
}

TEST_CASE("an extended request header is decoded field by field") {
  const uint8_t bytes[] = {0x21, 0xe4, 0x1c, 0x71, 0,    0x22, 0,    6,    1, 2, 3, 4, 5, 6, 7, 8,
                           0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 1, 0, 0, 0, 0, 5};
  static_assert(sizeof bytes == EXTENDED_REQUEST_BYTES);
  RequestHeader header;
  CHECK_FALSE(decode_request(bytes, ReplyStyle::structured, &header));
  REQUIRE(decode_request(bytes, ReplyStyle::extended, &header));
  CHECK(header.type == NBD_CMD_WRITE_ZEROES);
  CHECK(header.flags == (NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_PAYLOAD_LEN));
  CHECK(header.offset == 0x1122334455667788);
  CHECK(header.length_bytes == 0x10000000005);
  CHECK(payload_bytes(header, ReplyStyle::extended) == 0x10000000005);
  header.flags = 0;
  header.type = NBD_CMD_WRITE;
  CHECK(payload_bytes(header, ReplyStyle::extended) == 0);
}

TEST_CASE("any wrong byte in the magic number is noticed") {
  for (size_t at = 0; at < 4; at++) {
    auto bytes = encode_request(NBD_CMD_READ, 0, 0, 0);
    bytes[at] ^= 1;
    RequestHeader header;
    CHECK_FALSE(decode_request(bytes.data(), ReplyStyle::simple, &header));
  }
}

TEST_CASE("a reply carries the cookie's bytes as they came, and the error in network order") {
  auto bytes = encode_request(NBD_CMD_READ, 0x0102030405060708, 0, 1);
  RequestHeader header;
  REQUIRE(decode_request(bytes.data(), ReplyStyle::simple, &header));
  uint8_t reply[SIMPLE_REPLY_BYTES];
  encode_simple_reply(reply, header.cookie, NBD_ENOSPC);
  const uint8_t expected[] = {0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(memcmp(reply, expected, sizeof expected) == 0);
}

TEST_CASE("chunk headers are encoded byte for byte") {
  const ChunkHeader header{NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR_OFFSET,
                           htobe64(0x0102030405060708), 0x1122334455667788, 0x10008};
  uint8_t structured[CHUNK_HEADER_BYTES];
  encode_chunk_header(structured, ReplyStyle::structured, header);
  const uint8_t expected[] = {0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 2, 1, 2,
                              3,    4,    5,    6,    7, 8, 0,    1, 0, 8};
  static_assert(sizeof expected == sizeof structured);
  CHECK(memcmp(structured, expected, sizeof structured) == 0);

  uint8_t extended[EXTENDED_CHUNK_HEADER_BYTES];
  encode_chunk_header(extended, ReplyStyle::extended, header);
  const uint8_t expected_extended[] = {
      0x6e, 0x8a, 0x27, 0x8c, 0,    1,    0x80, 2,    1, 2, 3, 4, 5, 6, 7, 8,
      0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 0, 0, 1, 0, 8};
  static_assert(sizeof expected_extended == sizeof extended);
  CHECK(memcmp(extended, expected_extended, sizeof extended) == 0);
}

TEST_CASE("only errors of the specification reach a client") {
  const struct {
    int error;
    uint16_t flags;
    uint32_t wire;
  } cases[] = {
      {0, 0, NBD_SUCCESS},
      {EPERM, 0, NBD_EPERM},
      {EROFS, 0, NBD_EPERM},
      {EIO, 0, NBD_EIO},
      {ENOMEM, 0, NBD_ENOMEM},
      {ENOSPC, 0, NBD_ENOSPC},
      {EDQUOT, 0, NBD_ENOSPC},
      {EFBIG, 0, NBD_ENOSPC},
      {ESHUTDOWN, 0, NBD_ESHUTDOWN},
      {EINVAL, 0, NBD_EINVAL},
      {ENOENT, 0, NBD_EINVAL},
      {ENOTSUP, 0, NBD_EINVAL},
      {EOPNOTSUPP, NBD_CMD_FLAG_FAST_ZERO, NBD_ENOTSUP},
      {EOVERFLOW, 0, NBD_EINVAL},
      {EOVERFLOW, NBD_CMD_FLAG_DF, NBD_EOVERFLOW},
      {-5, 0, NBD_EINVAL},
  };
  for (const auto &c : cases) {
    CAPTURE(c.error);
    CHECK(error_from_errno(c.error, c.flags) == c.wire);
  }
}
