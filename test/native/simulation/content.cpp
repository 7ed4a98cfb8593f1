// See content.hpp.
#include "content.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "wire/constants.hpp"

namespace simulation {

namespace {

// A prime: what is to be found elsewhere by mistake differs.
constexpr size_t PERIOD = 65521;

const std::array<uint8_t, PERIOD> &pattern() {
  static std::array<uint8_t, PERIOD> bytes;
  static bool is_made = false;
  if (!is_made) {
    Random random(1);
    for (uint8_t &byte : bytes)
      byte = static_cast<uint8_t>(random.next());
    is_made = true;
  }
  return bytes;
}

// One unit in so many is a hole.
constexpr size_t UNIT_BYTES = HOLE_BYTES_EACH;
constexpr uint64_t HOLE_ONE_IN = 8;

constexpr bool is_hole(uint64_t offset) {
  return offset / UNIT_BYTES % HOLE_ONE_IN == HOLE_ONE_IN - 1;
}

constexpr uint64_t to_next_unit(uint64_t offset) {
  return UNIT_BYTES - offset % UNIT_BYTES;
}

bool is_all_one_kind(uint64_t offset, uint64_t length_bytes, bool holes) {
  for (uint64_t done = 0; done < length_bytes; done += to_next_unit(offset + done))
    if (is_hole(offset + done) != holes)
      return false;
  return true;
}

// Calls `visit` for each part of the range with the bytes that belong there.
template <typename Visit> void each_part(uint64_t offset, size_t length_bytes, Visit visit) {
  static const std::array<uint8_t, UNIT_BYTES> zeroes{};
  for (size_t done = 0; done < length_bytes;) {
    const uint64_t place = offset + done;
    const size_t at = place % PERIOD;
    const size_t part =
        std::min({length_bytes - done, PERIOD - at, static_cast<size_t>(to_next_unit(place))});
    visit(done, is_hole(place) ? zeroes.data() : pattern().data() + at, part);
    done += part;
  }
}

} // namespace

uint64_t random_hole(Random &random, uint64_t disk_bytes) {
  const uint64_t number = random.below(disk_bytes / UNIT_BYTES / HOLE_ONE_IN);
  return (number * HOLE_ONE_IN + HOLE_ONE_IN - 1) * UNIT_BYTES;
}

uint16_t zero_flags(uint64_t offset) {
  const uint64_t hole = offset / UNIT_BYTES / HOLE_ONE_IN;
  return static_cast<uint16_t>((hole % 2 == 1 ? asyncnbd::wire::NBD_CMD_FLAG_NO_HOLE : 0) |
                               (hole % 3 == 1 ? asyncnbd::wire::NBD_CMD_FLAG_FAST_ZERO : 0));
}

bool is_all_holes(uint64_t offset, uint64_t length_bytes) {
  return is_all_one_kind(offset, length_bytes, true);
}

bool is_all_data(uint64_t offset, uint64_t length_bytes) {
  return is_all_one_kind(offset, length_bytes, false);
}

std::vector<asyncnbd::backend::Extent> extents_of(uint64_t offset, uint64_t length_bytes) {
  std::vector<asyncnbd::backend::Extent> extents;
  for (uint64_t at = offset; at < offset + length_bytes; at += to_next_unit(at))
    asyncnbd::backend::append_extent(extents, to_next_unit(at),
                                     is_hole(at) ? asyncnbd::backend::HOLE_AND_ZERO : 0);
  return extents;
}

void fill(uint8_t *to, uint64_t offset, size_t length_bytes) {
  each_part(offset, length_bytes, [to](size_t done, const uint8_t *bytes, size_t part) {
    memcpy(to + done, bytes, part);
  });
}

bool is_filled(const uint8_t *from, uint64_t offset, size_t length_bytes) {
  bool is_same = true;
  each_part(offset, length_bytes, [&](size_t done, const uint8_t *bytes, size_t part) {
    is_same = is_same && memcmp(from + done, bytes, part) == 0;
  });
  return is_same;
}

} // namespace simulation
