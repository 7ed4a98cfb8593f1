// Tests wire/: request headers, reply headers, error numbers and command names.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cerrno>
#include <set>

#include "test/support.hpp"
#include "wire/wire.hpp"

using namespace asyncnbd;
using namespace asyncnbd::test;

TEST_CASE("a request header is decoded field by field from network byte order") {
  const uint8_t bytes[wire::REQUEST_HEADER_BYTES] = {
      0x25, 0x60, 0x95, 0x13,                         // magic
      0x12, 0x34,                                     // flags
      0x56, 0x78,                                     // type
      0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, // cookie
      0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, // offset
      0x21, 0x22, 0x23, 0x24,                         // length
  };
  wire::RequestHeader header;
  REQUIRE(wire::decode_request(bytes, &header));
  CHECK(header.flags == 0x1234);
  CHECK(header.type == 0x5678);
  CHECK(header.offset == 0x1112131415161718);
  CHECK(header.length_bytes == 0x21222324);
}

TEST_CASE("a request header is decoded at any alignment and with every bit set") {
  for (size_t shift = 0; shift < 8; shift++) {
    Bytes bytes(shift);
    append(&bytes, request_bytes(0xffff, UINT64_MAX, UINT64_MAX, UINT32_MAX, {}, 0xffff));
    wire::RequestHeader header;
    REQUIRE(wire::decode_request(bytes.data() + shift, &header));
    CHECK(header.flags == 0xffff);
    CHECK(header.type == 0xffff);
    CHECK(header.cookie == UINT64_MAX);
    CHECK(header.offset == UINT64_MAX);
    CHECK(header.length_bytes == UINT32_MAX);
  }
}

TEST_CASE("a request with one wrong bit in its magic is refused") {
  wire::RequestHeader header;
  for (size_t bit = 0; bit < 32; bit++) {
    Bytes bytes = request_bytes(wire::NBD_CMD_READ, 1, 2, 3);
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    CAPTURE(bit);
    CHECK_FALSE(wire::decode_request(bytes.data(), &header));
  }
}

TEST_CASE("a reply's magic is no request's") {
  Bytes bytes(wire::REQUEST_HEADER_BYTES);
  wire::encode_simple_reply(bytes.data(), 0, 0);
  wire::RequestHeader header;
  CHECK_FALSE(wire::decode_request(bytes.data(), &header));
}

TEST_CASE("a simple reply is magic, error and cookie in network byte order") {
  Bytes bytes(wire::SIMPLE_REPLY_BYTES + 1, 0xee);
  uint64_t cookie;
  memcpy(&cookie, "\x01\x02\x03\x04\x05\x06\x07\x08", sizeof cookie);
  wire::encode_simple_reply(bytes.data(), cookie, 0xa1b2c3d4);
  const Bytes expected = {0x67, 0x44, 0x66, 0x98, 0xa1, 0xb2, 0xc3, 0xd4, 0x01,
                          0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0xee};
  CHECK(bytes == expected);
}

TEST_CASE("a cookie is echoed byte for byte") {
  const Bytes cookies[] = {{0, 0, 0, 0, 0, 0, 0, 0},
                           {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                           {0x80, 0, 0, 0, 0, 0, 0, 1},
                           {'n', 'b', 'd', 0, 0xfe, 0x0a, 0x25, 0x60}};
  for (const Bytes &cookie : cookies) {
    Bytes request = request_bytes(wire::NBD_CMD_READ, 0, 0, 1);
    std::copy(cookie.begin(), cookie.end(), request.begin() + 8);
    wire::RequestHeader header;
    REQUIRE(wire::decode_request(request.data(), &header));
    Bytes reply(wire::SIMPLE_REPLY_BYTES);
    wire::encode_simple_reply(reply.data(), header.cookie, wire::NBD_SUCCESS);
    CHECK(Bytes(reply.begin() + 8, reply.end()) == cookie);
  }
}

TEST_CASE("an errno becomes the error the specification has for it") {
  struct Row {
    int error;
    uint32_t expected;
  };
  const Row rows[] = {
      {0, 0},           {EPERM, 1},         {EROFS, 1},     {EIO, 5},     {ENOMEM, 12},
      {ENOSPC, 28},     {EDQUOT, 28},       {EFBIG, 28},    {EINVAL, 22}, {ESHUTDOWN, 108},
      {ENOTSUP, 22},    {EOPNOTSUPP, 22},   {EOVERFLOW, 22}, {ENOENT, 22}, {EACCES, 22},
      {ECONNRESET, 22}, {ETIMEDOUT, 22},    {EINTR, 22},    {-1, 22},     {-EIO, 22},
      {INT32_MAX, 22},  {INT32_MIN, 22},
  };
  for (const Row &row : rows) {
    CAPTURE(row.error);
    CHECK(wire::error_from_errno(row.error, 0) == row.expected);
  }
}

TEST_CASE("ENOTSUP is told only to those who asked for FAST_ZERO") {
  for (unsigned flags = 0; flags <= UINT16_MAX; flags++) {
    const bool fast = (flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
    if (wire::error_from_errno(ENOTSUP, static_cast<uint16_t>(flags)) != (fast ? 95u : 22u))
      FAIL_CHECK("flags ", flags);
  }
}

TEST_CASE("EOVERFLOW is told only to those who asked for DF") {
  for (unsigned flags = 0; flags <= UINT16_MAX; flags++) {
    const bool df = (flags & wire::NBD_CMD_FLAG_DF) != 0;
    if (wire::error_from_errno(EOVERFLOW, static_cast<uint16_t>(flags)) != (df ? 75u : 22u))
      FAIL_CHECK("flags ", flags);
  }
}

TEST_CASE("no errno makes an error that the specification does not know") {
  const std::set<uint32_t> known = {1, 5, 12, 22, 28, 75, 95, 108};
  for (int error = 1; error < 4096; error++)
    for (uint16_t flags : {0x0000, 0xffff}) {
      CAPTURE(error);
      CHECK(known.count(wire::error_from_errno(error, flags)) == 1);
    }
}

TEST_CASE("commands have the specification's names") {
  const std::pair<uint16_t, std::string> rows[] = {
      {0, "read"},         {1, "write"},        {2, "disconnect"}, {3, "flush"},
      {4, "trim"},         {5, "cache"},        {6, "write zeroes"}, {7, "block status"},
      {8, "unknown"},      {0x100, "unknown"},  {0xffff, "unknown"},
  };
  for (const auto &[type, name] : rows)
    CHECK(wire::command_name(type) == name);
}
