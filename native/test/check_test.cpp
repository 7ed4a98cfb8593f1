// Tests connection/check.hpp: which requests are refused before a backend sees them, and with what.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cerrno>

#include "connection/check.hpp"
#include "test/support.hpp"

using namespace asyncnbd;
using namespace asyncnbd::wire;
using connection::check_request;
using connection::ExportFacts;

namespace {

constexpr uint64_t SIZE = 1 << 20;
constexpr uint64_t HUGE_SIZE = INT64_MAX;
constexpr uint16_t ALL = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                         NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_CACHE |
                         NBD_FLAG_SEND_FAST_ZERO;
constexpr uint16_t RANGED[] = {NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE,
                               NBD_CMD_WRITE_ZEROES};
constexpr uint32_t MAX = MAX_PAYLOAD_BYTES;

int check(uint16_t type, uint64_t offset, uint32_t length, uint64_t size = SIZE,
          uint16_t facts = ALL, uint16_t flags = 0) {
  return check_request({flags, type, 0, offset, length}, {size, facts});
}

bool modifies(uint16_t type) {
  return type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;
}

int out_of_range_error(uint16_t type) {
  return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES ? ENOSPC : EINVAL;
}

} // namespace

TEST_CASE("a range must lie inside the export, and no sum overflows") {
  struct Row {
    uint64_t offset;
    uint32_t length;
    uint64_t size;
    bool inside;
  };
  const Row rows[] = {
      {0, 1, SIZE, true},
      {0, SIZE, SIZE, true},
      {SIZE - 1, 1, SIZE, true},
      {SIZE - 512, 512, SIZE, true},
      {0, SIZE + 1, SIZE, false},
      {1, SIZE, SIZE, false},
      {SIZE - 1, 2, SIZE, false},
      {SIZE, 1, SIZE, false},
      {SIZE + 1, 1, SIZE, false},
      {0, 0, SIZE, false},
      {SIZE, 0, SIZE, false},
      {SIZE + 1, 0, SIZE, false},
      {0, 1, 0, false},
      {0, 0, 0, false},
      {0, 1, 1, true},
      {UINT64_MAX, 1, SIZE, false},
      {UINT64_MAX, UINT32_MAX, SIZE, false},
      {UINT64_MAX - 511, 512, SIZE, false},                   // the sum is 0
      {UINT64_MAX - 511, 1024, SIZE, false},                  // the sum is 512
      {UINT64_MAX - UINT32_MAX + 1, UINT32_MAX, SIZE, false}, // the sum is UINT64_MAX
      {UINT64_MAX - UINT32_MAX + 2, UINT32_MAX, SIZE, false}, // the sum is 0
      {HUGE_SIZE - 1, 1, HUGE_SIZE, true},
      {HUGE_SIZE - 1, 2, HUGE_SIZE, false},
      {HUGE_SIZE, 1, HUGE_SIZE, false},
      {UINT64_MAX - 1, 1, UINT64_MAX, true},
      {UINT64_MAX - 1, 2, UINT64_MAX, false},
      {UINT64_MAX, 1, UINT64_MAX, false},
      {UINT64_MAX - 4096, 4096, UINT64_MAX, true},
      {UINT64_MAX - 4096, 4097, UINT64_MAX, false},
      {UINT64_MAX, UINT32_MAX, UINT64_MAX, false},
  };
  for (uint16_t type : RANGED)
    for (const Row &row : rows) {
      CAPTURE(command_name(type));
      CAPTURE(row.offset);
      CAPTURE(row.length);
      CAPTURE(row.size);
      CHECK(check(type, row.offset, row.length, row.size) ==
            (row.inside ? 0 : out_of_range_error(type)));
    }
}

TEST_CASE("reads and writes are limited by their payload, the others by the export alone") {
  for (uint16_t type : RANGED) {
    CAPTURE(command_name(type));
    const bool limited = type == NBD_CMD_READ || type == NBD_CMD_WRITE;
    CHECK(check(type, 0, MAX, HUGE_SIZE) == 0);
    CHECK(check(type, 0, MAX + 1, HUGE_SIZE) == (limited ? EINVAL : 0));
    CHECK(check(type, 0, UINT32_MAX, HUGE_SIZE) == (limited ? EINVAL : 0));
    CHECK(check(type, 12345, UINT32_MAX, HUGE_SIZE) == (limited ? EINVAL : 0));
  }
}

TEST_CASE("a flush has neither offset nor length") {
  CHECK(check(NBD_CMD_FLUSH, 0, 0) == 0);
  CHECK(check(NBD_CMD_FLUSH, 0, 0, 0) == 0);
  CHECK(check(NBD_CMD_FLUSH, 1, 0) == EINVAL);
  CHECK(check(NBD_CMD_FLUSH, 0, 1) == EINVAL);
  CHECK(check(NBD_CMD_FLUSH, UINT64_MAX, UINT32_MAX) == EINVAL);
}

TEST_CASE("commands that are not served are refused whatever the export offers") {
  CHECK(check(NBD_CMD_BLOCK_STATUS, 0, 512, SIZE, 0xffff & ~NBD_FLAG_READ_ONLY) == EINVAL);
  for (unsigned type = NBD_CMD_BLOCK_STATUS; type <= UINT16_MAX; type++)
    for (uint16_t facts : {uint16_t{0}, ALL, uint16_t{0xffff}})
      if (check(static_cast<uint16_t>(type), 0, 512, SIZE, facts) != EINVAL)
        FAIL_CHECK("type ", type, " facts ", facts);
}

TEST_CASE("a read-only export refuses what would modify it, and that before all else") {
  const uint16_t readonly = ALL | NBD_FLAG_READ_ONLY;
  for (uint16_t type : RANGED) {
    CAPTURE(command_name(type));
    CHECK(check(type, 0, 512, SIZE, readonly) == (modifies(type) ? EPERM : 0));
    CHECK(check(type, SIZE, 512, SIZE, readonly) == (modifies(type) ? EPERM : EINVAL));
    CHECK(check(type, 0, 512, SIZE, readonly, 0xffff) == (modifies(type) ? EPERM : EINVAL));
  }
  CHECK(check(NBD_CMD_FLUSH, 0, 0, SIZE, readonly) == 0);
}

TEST_CASE("a command that was not offered is refused") {
  const std::pair<uint16_t, uint16_t> rows[] = {
      {NBD_CMD_FLUSH, NBD_FLAG_SEND_FLUSH},
      {NBD_CMD_TRIM, NBD_FLAG_SEND_TRIM},
      {NBD_CMD_CACHE, NBD_FLAG_SEND_CACHE},
      {NBD_CMD_WRITE_ZEROES, NBD_FLAG_SEND_WRITE_ZEROES},
  };
  for (const auto &[type, fact] : rows) {
    CAPTURE(command_name(type));
    const uint32_t length = type == NBD_CMD_FLUSH ? 0 : 512;
    CHECK(check(type, 0, length, SIZE, fact) == 0);
    CHECK(check(type, 0, length, SIZE, ALL & ~fact) == EINVAL);
  }
  CHECK(check(NBD_CMD_READ, 0, 512, SIZE, NBD_FLAG_HAS_FLAGS) == 0);
  CHECK(check(NBD_CMD_WRITE, 0, 512, SIZE, NBD_FLAG_HAS_FLAGS) == 0);
}

TEST_CASE("FUA is accepted on every command once it was offered, and on none before") {
  const uint16_t without = ALL & ~NBD_FLAG_SEND_FUA;
  for (uint16_t type : {NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE,
                        NBD_CMD_WRITE_ZEROES}) {
    CAPTURE(command_name(type));
    const uint32_t length = type == NBD_CMD_FLUSH ? 0 : 512;
    CHECK(check(type, 0, length, SIZE, ALL, NBD_CMD_FLAG_FUA) == 0);
    CHECK(check(type, 0, length, SIZE, without, NBD_CMD_FLAG_FUA) == EINVAL);
  }
}

TEST_CASE("each command accepts its own flags and no others, alone or together") {
  for (uint16_t type : {NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE,
                        NBD_CMD_WRITE_ZEROES}) {
    CAPTURE(command_name(type));
    const uint16_t zero_flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    const uint16_t allowed =
        type == NBD_CMD_WRITE_ZEROES ? NBD_CMD_FLAG_FUA | zero_flags : NBD_CMD_FLAG_FUA;
    const uint32_t length = type == NBD_CMD_FLUSH ? 0 : 512;
    for (unsigned flags = 0; flags <= UINT16_MAX; flags++) {
      int expected = (flags & ~allowed) == 0 ? 0 : EINVAL;
      if (check(type, 0, length, SIZE, ALL, static_cast<uint16_t>(flags)) != expected)
        FAIL_CHECK("flags ", flags);
    }
  }
}

TEST_CASE("FAST_ZERO needs an offer of its own, NO_HOLE none") {
  const uint16_t without = ALL & ~NBD_FLAG_SEND_FAST_ZERO;
  CHECK(check(NBD_CMD_WRITE_ZEROES, 0, 512, SIZE, ALL, NBD_CMD_FLAG_FAST_ZERO) == 0);
  CHECK(check(NBD_CMD_WRITE_ZEROES, 0, 512, SIZE, without, NBD_CMD_FLAG_FAST_ZERO) == EINVAL);
  CHECK(check(NBD_CMD_WRITE_ZEROES, 0, 512, SIZE, without, NBD_CMD_FLAG_NO_HOLE) == 0);
}

TEST_CASE("a range outside the export is told before a flag that does not belong") {
  CHECK(check(NBD_CMD_WRITE, SIZE, 512, SIZE, ALL, NBD_CMD_FLAG_DF) == ENOSPC);
  CHECK(check(NBD_CMD_WRITE_ZEROES, SIZE, 512, SIZE, NBD_FLAG_HAS_FLAGS) == ENOSPC);
}
