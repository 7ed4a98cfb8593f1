// The checks of requests at the edges of 64 bits; test/conformance has the rest on the wire.
#include <doctest/doctest.h>

#include <cerrno>

#include "nbd/check.hpp"
#include "wire/commands.hpp"

using namespace asyncnbd::nbd;
using namespace asyncnbd::wire;

namespace {

constexpr uint16_t ALL = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                         NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_CACHE |
                         NBD_FLAG_SEND_FAST_ZERO;

int check(uint16_t type, uint64_t offset, uint64_t length, uint16_t flags = 0,
          const ExportFacts &facts = {UINT64_C(1) << 63, ALL, {}},
          ReplyStyle style = ReplyStyle::simple) {
  return check_request({flags, type, 0, offset, length}, style, facts);
}

int check_extended(uint16_t type, uint64_t offset, uint64_t length, uint16_t flags,
                   uint16_t offered = ALL) {
  return check(type, offset, length, flags, {UINT64_C(1) << 63, offered, {{1, 0}}},
               ReplyStyle::extended);
}

} // namespace

TEST_CASE("a range is inside only if its end is, without any overflow") {
  const uint64_t size = UINT64_C(1) << 63;
  CHECK(check(NBD_CMD_READ, 0, 1) == 0);
  CHECK(check(NBD_CMD_READ, size - 1, 1) == 0);
  CHECK(check(NBD_CMD_READ, size - 1, 2) == EINVAL);
  CHECK(check(NBD_CMD_READ, size, 1) == EINVAL);
  CHECK(check(NBD_CMD_READ, UINT64_MAX, 1) == EINVAL);
  CHECK(check(NBD_CMD_READ, UINT64_MAX - 4095, 4096) == EINVAL);
  CHECK(check(NBD_CMD_WRITE, UINT64_MAX - 4095, 4096) == ENOSPC);
  CHECK(check(NBD_CMD_WRITE_ZEROES, UINT64_MAX, UINT32_MAX) == ENOSPC);
  CHECK(check(NBD_CMD_TRIM, 0, UINT32_MAX) == 0);
  CHECK(check(NBD_CMD_READ, 0, 1, 0, {0, ALL, {}}) == EINVAL);
  CHECK(check_extended(NBD_CMD_TRIM, 0, size, 0) == 0);
  CHECK(check_extended(NBD_CMD_TRIM, 1, size, 0) == EINVAL);
  CHECK(check_extended(NBD_CMD_TRIM, 1, UINT64_MAX, 0) == EINVAL);
  CHECK(check_extended(NBD_CMD_TRIM, UINT64_MAX, UINT64_MAX, 0) == EINVAL);
}

TEST_CASE("with extended headers only a write may, and must, have a payload flag") {
  constexpr uint16_t PAYLOAD = NBD_CMD_FLAG_PAYLOAD_LEN;
  CHECK(check_extended(NBD_CMD_WRITE, 0, 512, PAYLOAD) == 0);
  CHECK(check_extended(NBD_CMD_WRITE, 0, 512, 0) == EINVAL);
  for (uint16_t type : {NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE}) {
    CHECK(check_extended(type, 0, 512, 0) == 0);
    CHECK(check_extended(type, 0, 512, PAYLOAD) == EINVAL);
  }
  CHECK(check_extended(NBD_CMD_BLOCK_STATUS, 0, 512, 0) == 0);
  CHECK(check_extended(NBD_CMD_BLOCK_STATUS, 0, 512, PAYLOAD) == EINVAL);
  CHECK(check_extended(NBD_CMD_BLOCK_STATUS, UINT64_MAX, 512, PAYLOAD,
                       ALL | NBD_FLAG_BLOCK_STATUS_PAYLOAD) == 0); // its range is in the payload
  CHECK(check(NBD_CMD_WRITE, 0, 512, PAYLOAD) == EINVAL);
}

TEST_CASE("block sizes that a client was told are enforced") {
  const ExportFacts facts{10000, ALL, {}, 4096, 8192};
  CHECK(check(NBD_CMD_READ, 4096, 4096, 0, facts) == 0);
  CHECK(check(NBD_CMD_READ, 4096, 512, 0, facts) == EINVAL);
  CHECK(check(NBD_CMD_WRITE, 512, 4096, 0, facts) == EINVAL);
  CHECK(check(NBD_CMD_TRIM, 8192, 10000 - 8192, 0, facts) == 0); // up to the end
  CHECK(check(NBD_CMD_READ, 0, 8192, 0, facts) == 0);
  CHECK(check(NBD_CMD_READ, 0, 10000, 0, facts) == EINVAL);
  CHECK(check(NBD_CMD_CACHE, 0, 10000, 0, facts) == 0); // has no payload
}

TEST_CASE("payloads have a limit, other lengths do not") {
  CHECK(check(NBD_CMD_READ, 0, MAX_PAYLOAD_BYTES) == 0);
  CHECK(check(NBD_CMD_READ, 0, MAX_PAYLOAD_BYTES + 1) == EINVAL);
  CHECK(check(NBD_CMD_WRITE, 0, MAX_PAYLOAD_BYTES) == 0);
  CHECK(check(NBD_CMD_WRITE, 0, MAX_PAYLOAD_BYTES + 1) == EINVAL);
  CHECK(check(NBD_CMD_WRITE_ZEROES, 0, UINT32_MAX) == 0);
  CHECK(check(NBD_CMD_CACHE, 0, UINT32_MAX) == 0);
}

TEST_CASE("a command or flag that was not offered is refused") {
  const struct {
    uint16_t type;
    uint16_t flags;
    uint16_t needs;
  } cases[] = {
      {NBD_CMD_TRIM, 0, NBD_FLAG_SEND_TRIM},
      {NBD_CMD_CACHE, 0, NBD_FLAG_SEND_CACHE},
      {NBD_CMD_WRITE_ZEROES, 0, NBD_FLAG_SEND_WRITE_ZEROES},
      {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, NBD_FLAG_SEND_FAST_ZERO},
      {NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, NBD_FLAG_SEND_FUA},
      {NBD_CMD_READ, NBD_CMD_FLAG_FUA, NBD_FLAG_SEND_FUA},
  };
  for (const auto &c : cases) {
    CAPTURE(c.type);
    CHECK(check(c.type, 0, 512, c.flags) == 0);
    CHECK(check(c.type, 0, 512, c.flags, {4096, static_cast<uint16_t>(ALL & ~c.needs), {}}) ==
          EINVAL);
  }
  CHECK(check(NBD_CMD_FLUSH, 0, 0) == 0);
  CHECK(check(NBD_CMD_FLUSH, 0, 0, 0, {4096, NBD_FLAG_HAS_FLAGS, {}}) == EINVAL);
}

TEST_CASE("a read-only export refuses what modifies before it looks at the range") {
  const ExportFacts facts{4096, ALL | NBD_FLAG_READ_ONLY, {}};
  for (uint16_t type : {NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES})
    CHECK(check(type, UINT64_MAX, 1, 0xffff, facts) == EPERM);
  CHECK(check(NBD_CMD_READ, 0, 4096, 0, facts) == 0);
}

TEST_CASE("every unknown command and every unknown flag is EINVAL") {
  for (unsigned type = NBD_CMD_BLOCK_STATUS; type < 65536; type += 7)
    CHECK(check(static_cast<uint16_t>(type), 0, 512) == EINVAL);
  for (unsigned bit = 1; bit < 16; bit++)
    CHECK(check(NBD_CMD_READ, 0, 512, static_cast<uint16_t>(1u << bit)) == EINVAL);
}
