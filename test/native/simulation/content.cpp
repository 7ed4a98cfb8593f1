// See content.hpp.
#include "content.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "random.hpp"

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

// Calls `visit` for each part of the range with the bytes that belong there.
template <typename Visit> void each_part(uint64_t offset, size_t length_bytes, Visit visit) {
  for (size_t done = 0; done < length_bytes;) {
    const size_t at = (offset + done) % PERIOD;
    const size_t part = std::min(length_bytes - done, PERIOD - at);
    visit(done, pattern().data() + at, part);
    done += part;
  }
}

} // namespace

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
