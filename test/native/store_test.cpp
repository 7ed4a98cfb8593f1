// The stores of filters: the map of blocks, and who has a claim on which of them.
#include <doctest/doctest.h>

#include <random>
#include <thread>
#include <vector>

#include "store/block_map.hpp"
#include "store/range_claims.hpp"

using asyncnbd::store::BlockMap;
using asyncnbd::store::RangeClaims;

TEST_CASE("a map says of each block what was set last, and how many after it are the same") {
  constexpr uint64_t BLOCKS = 200'000; // several leaves
  BlockMap map;
  std::vector<uint8_t> model(BLOCKS);
  std::mt19937 random(1);
  for (int round = 0; round < 300; round++) {
    const uint64_t first = random() % BLOCKS;
    const uint64_t length = random() % 3 == 0 ? random() % 90'000 : random() % 100;
    const uint64_t last = std::min(BLOCKS - 1, first + length);
    const unsigned state = random() % 4;
    REQUIRE(map.set(first, last, state));
    std::fill(model.begin() + static_cast<ptrdiff_t>(first),
              model.begin() + static_cast<ptrdiff_t>(last) + 1, state);
    for (int look = 0; look < 20; look++) {
      const uint64_t at = random() % BLOCKS;
      const uint64_t to = std::min(BLOCKS - 1, at + random() % 100'000);
      uint64_t equal = 0;
      while (at + equal <= to && model[at + equal] == model[at])
        equal++;
      unsigned found;
      REQUIRE(map.run(at, to, &found) == equal);
      REQUIRE(found == model[at]);
      REQUIRE(map.get(at) == model[at]);
    }
  }
}

TEST_CASE("a map reaches to the end of the largest disk") {
  BlockMap map;
  const uint64_t last = (uint64_t{1} << BlockMap::BLOCK_BITS) - 1;
  CHECK(map.get(last) == 0);
  CHECK(map.set(last, last, 2));
  CHECK(map.get(last) == 2);
  CHECK(map.get(last - 1) == 0);
  CHECK(map.get(0) == 0);
}

TEST_CASE("threads that set neighbours do not lose each other's states") {
  BlockMap map;
  std::vector<std::thread> threads;
  for (unsigned of = 0; of < 4; of++)
    threads.emplace_back([&map, of] {
      for (uint64_t block = of; block < 100'000; block += 4)
        CHECK(map.set(block, block, of));
    });
  for (std::thread &thread : threads)
    thread.join();
  size_t wrong = 0;
  for (uint64_t block = 0; block < 100'000; block++)
    wrong += map.get(block) != block % 4;
  CHECK(wrong == 0);
}

TEST_CASE("claims that overlap are granted one after the other, in the order they came") {
  RangeClaims claims;
  auto claim = [](uint64_t first, uint64_t last) {
    RangeClaims::Claim made{};
    made.first = first;
    made.last = last;
    return made;
  };
  RangeClaims::Claim a = claim(0, 9);
  RangeClaims::Claim b = claim(5, 15);
  RangeClaims::Claim c = claim(12, 20); // overlaps with b only, which waits
  RangeClaims::Claim d = claim(30, 40);
  CHECK(claims.add(a));
  CHECK_FALSE(claims.add(b));
  CHECK_FALSE(claims.add(c));
  CHECK(claims.add(d));
  CHECK(claims.remove(d) == nullptr);
  SUBCASE("when the first has gone") {
    CHECK(claims.remove(a) == &b);
    CHECK(b.next_granted == nullptr);
    CHECK(claims.remove(b) == &c);
  }
  SUBCASE("when one that waits has left") {
    CHECK(claims.find_waiting([&](RangeClaims::Claim &waiting) { return &waiting == &b; }) == &b);
    CHECK(claims.remove(b) == &c);
    CHECK(claims.remove(a) == nullptr);
  }
  CHECK(claims.remove(c) == nullptr);
}
