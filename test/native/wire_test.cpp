// Request and reply headers, byte for byte.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cerrno>

#include "support.hpp"

using namespace asyncnbd::wire;

TEST_CASE("a request header is decoded field by field") {
  auto bytes = encode_request(NBD_CMD_WRITE_ZEROES, 0x0102030405060708, 0x1122334455667788,
                              0xcafebabe, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE);
  RequestHeader header;
  REQUIRE(decode_request(bytes.data(), &header));
  CHECK(header.type == NBD_CMD_WRITE_ZEROES);
  CHECK(header.flags == (NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE));
  CHECK(header.offset == 0x1122334455667788);
  CHECK(header.length_bytes == 0xcafebabe);
}

TEST_CASE("any wrong byte in the magic number is noticed") {
  for (size_t at = 0; at < 4; at++) {
    auto bytes = encode_request(NBD_CMD_READ, 0, 0, 0);
    bytes[at] ^= 1;
    RequestHeader header;
    CHECK_FALSE(decode_request(bytes.data(), &header));
  }
}

TEST_CASE("a reply carries the cookie's bytes as they came, and the error in network order") {
  auto bytes = encode_request(NBD_CMD_READ, 0x0102030405060708, 0, 1);
  RequestHeader header;
  REQUIRE(decode_request(bytes.data(), &header));
  uint8_t reply[SIMPLE_REPLY_BYTES];
  encode_simple_reply(reply, header.cookie, NBD_ENOSPC);
  const uint8_t expected[] = {0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(memcmp(reply, expected, sizeof expected) == 0);
}

TEST_CASE("chunks of structured replies, byte for byte") {
  const uint64_t cookie = htobe64(0x0102030405060708);
  uint8_t data[OFFSET_DATA_BYTES];
  encode_data_chunk(data, cookie, 0x1122334455667788, 4096);
  const uint8_t expected_data[] = {0x66, 0x8e, 0x33, 0xef, 0,    1,    0,    1,   1,    2,
                                   3,    4,    5,    6,    7,    8,    0,    0,   0x10, 8,
                                   0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
  static_assert(sizeof expected_data == OFFSET_DATA_BYTES);
  CHECK(memcmp(data, expected_data, sizeof data) == 0);

  uint8_t status[BLOCK_STATUS_BYTES + EXTENT_BYTES];
  encode_status_chunk(status, cookie, 9, 1);
  encode_extent(status + BLOCK_STATUS_BYTES, 0x10000, 3);
  const uint8_t expected_status[] = {0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8,
                                     0,    0,    0,    12,   0, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 3};
  static_assert(sizeof expected_status == sizeof status);
  CHECK(memcmp(status, expected_status, sizeof status) == 0);

  uint8_t error[ERROR_BYTES];
  encode_error_chunk(error, cookie, NBD_ENOSPC, 300);
  const uint8_t expected_error[] = {0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, 1, 2, 3,  4, 5,
                                    6,    7,    8,    0,    0, 1, 0x32, 0, 0, 0, 28, 1, 0x2c};
  static_assert(sizeof expected_error == ERROR_BYTES);
  CHECK(memcmp(error, expected_error, sizeof error) == 0);
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
