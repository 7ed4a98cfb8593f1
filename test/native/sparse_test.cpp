// Reads divided by extents, and extents that end at block boundaries.
#include <doctest/doctest.h>

#include <random>

#include "backend/sparse.hpp"

using namespace asyncnbd::backend;

namespace {

constexpr uint64_t ZERO = 2;

std::vector<uint64_t> flags_by_byte(const std::vector<Extent> &extents) {
  std::vector<uint64_t> flags;
  for (const Extent &extent : extents)
    flags.insert(flags.end(), extent.length_bytes, extent.flags);
  return flags;
}

std::vector<Extent> random_extents(std::mt19937 &random, uint64_t total_bytes, uint64_t longest) {
  std::vector<Extent> extents;
  for (uint64_t at = 0; at < total_bytes;) {
    const uint64_t length = std::min(1 + random() % longest, total_bytes - at);
    extents.push_back({length, random() % 4});
    at += length;
  }
  return extents;
}

} // namespace

TEST_CASE("a read is divided where holes are large enough") {
  CHECK(divide_read({{65536, 0}}, 0, 65536) == nullptr);
  CHECK(divide_read({{4095, ZERO}, {61441, 0}}, 0, 65536) == nullptr); // too small
  auto all = divide_read({{1 << 20, ZERO | 1}}, 4096, 65536);
  REQUIRE(all != nullptr);
  REQUIRE(all->size() == 1);
  CHECK(all->at(0).offset == 4096);
  CHECK(all->at(0).length_bytes == 65536);
  CHECK(all->at(0).is_hole);
  CHECK(divide_read({{65536, 1}}, 0, 65536) == nullptr); // a hole need not read as zeroes
}

TEST_CASE("runs cover the read once, in order, and no data is in a hole") {
  std::mt19937 random(1);
  for (int round = 0; round < 200; round++) {
    const uint64_t offset = random() % 10000;
    const auto length = static_cast<uint32_t>(1 + random() % 200000);
    const auto extents = random_extents(random, length + random() % 5000, 30000);
    const auto flags = flags_by_byte(extents);
    auto runs = divide_read(extents, offset, length);
    if (!runs)
      continue;
    uint64_t at = offset;
    for (const Run &run : *runs) {
      REQUIRE(run.offset == at);
      REQUIRE(run.length_bytes > 0);
      if (run.is_hole)
        for (uint64_t i = at; i < at + run.length_bytes; i++)
          REQUIRE((flags[i - offset] & ZERO) != 0);
      at += run.length_bytes;
    }
    REQUIRE(at == offset + length);
    REQUIRE(runs->size() <= 65);
  }
}

TEST_CASE("aligned extents end at block boundaries and claim only what holds for a whole block") {
  std::mt19937 random(2);
  for (int round = 0; round < 500; round++) {
    const uint64_t offset = random() % 8 * 512;
    const auto given = random_extents(random, 1 + random() % 20000, 3000);
    auto aligned = given;
    align_extents(aligned, offset, 512);
    const auto before = flags_by_byte(given);
    const auto after = flags_by_byte(aligned);
    REQUIRE(before.size() == after.size());
    for (size_t i = 0; i < before.size(); i++)
      REQUIRE((after[i] & ~before[i]) == 0);
    uint64_t end = offset;
    for (const Extent &extent : aligned) {
      end += extent.length_bytes;
      REQUIRE((end % 512 == 0 || &extent == &aligned.back()));
    }
  }
  std::vector<Extent> extents = {{100, 3}, {412, 1}, {512, 3}, {512, 3}};
  align_extents(extents, 0, 512);
  REQUIRE(extents.size() == 2);
  CHECK(extents[0].flags == 1);
  CHECK(extents[1].length_bytes == 1024);
}
