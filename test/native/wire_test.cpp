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
