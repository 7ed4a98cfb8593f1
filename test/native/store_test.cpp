// The stores of filters: the map of blocks, and who has a claim on which of them.
#include <doctest/doctest.h>

#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "store/block_map.hpp"
#include "store/range_claims.hpp"

using asyncnbd::store::BlockMap;
using asyncnbd::store::RangeClaims;

TEST_CASE("a map has the last state of each block and the length of each run") {
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

TEST_CASE("a map finds states, and replaces them where they are") {
  constexpr uint64_t BLOCKS = 200'000;
  BlockMap map;
  std::vector<uint8_t> model(BLOCKS);
  std::mt19937 random(2);
  for (int round = 0; round < 300; round++) {
    const uint64_t first = random() % BLOCKS;
    const uint64_t length = random() % 3 == 0 ? random() % 90'000 : random() % 100;
    const uint64_t last = std::min(BLOCKS - 1, first + length);
    const unsigned states = random() % 8 * 2;
    const unsigned to = random() % 4;
    if (round % 2 == 0) {
      REQUIRE(map.set(first, last, to));
    } else {
      REQUIRE(map.replace(first, last, states, to));
    }
    for (uint64_t block = first; block <= last; block++)
      if (round % 2 == 0 || (states >> model[block] & 1) != 0)
        model[block] = static_cast<uint8_t>(to);
    for (int look = 0; look < 20; look++) {
      const uint64_t from = random() % BLOCKS;
      const unsigned wanted = random() % 8 * 2;
      uint64_t found = from;
      while (found < BLOCKS && (wanted >> model[found] & 1) == 0)
        found++;
      const auto answer = map.find(from, BLOCKS - 1, wanted);
      CHECK(answer.value_or(BLOCKS) == found);
      CHECK(map.get(from) == model[from]);
    }
  }
}

TEST_CASE("an untouched map of the largest disk is searched at once") {
  BlockMap map;
  const uint64_t last = (uint64_t{1} << BlockMap::BLOCK_BITS) - 1;
  CHECK_FALSE(map.find(0, last, 14));
  REQUIRE(map.set(last - 5, last - 5, 2));
  CHECK(map.find(0, last, 4) == last - 5);
  CHECK_FALSE(map.find(0, last, 2));
  CHECK_FALSE(map.find(last - 4, last, 4));
}

TEST_CASE("a map keeps to its memory limit and goes on with what it has") {
  constexpr uint64_t FAR = uint64_t{1} << 30; // blocks between two that are set
  BlockMap map(1 << 20);
  uint64_t block = 0;
  while (map.set(block, block, 2))
    block += FAR;
  CHECK(block > 5 * FAR);
  CHECK(block < 40 * FAR); // each takes 40 KiB, and 32 KiB for each level above
  CHECK(map.get(block) == 0);
  CHECK(map.get(block - FAR) == 2);
  CHECK(map.set(0, 100, 1));
  CHECK(map.get(100) == 1);
}

TEST_CASE("threads that set neighbouring blocks lose no states") {
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
    std::vector<RangeClaims::Claim *> waiting;
    claims.for_each_waiting([&](RangeClaims::Claim &claim) { waiting.push_back(&claim); });
    CHECK(waiting == std::vector<RangeClaims::Claim *>{&b, &c});
    CHECK(claims.remove(b) == &c);
    CHECK(claims.remove(a) == nullptr);
  }
  CHECK(claims.remove(c) == nullptr);
}

// The model looks at all pairs.
TEST_CASE("a claim is granted once no earlier one overlaps, in whatever order they end") {
  std::mt19937 random(1);
  for (int round = 0; round < 20; round++) {
    RangeClaims claims;
    std::vector<std::unique_ptr<RangeClaims::Claim>> there; // in the order they came
    const uint64_t longest = round % 2 == 0 ? 10 : 100;
    auto is_due = [&](size_t of) {
      for (size_t i = 0; i < of; i++)
        if (there[i]->first <= there[of]->last && there[of]->first <= there[i]->last)
          return false;
      return true;
    };
    for (int step = 0; step < 600; step++) {
      if (random() % 100 < (step < 300 ? 60u : 40u)) {
        there.push_back(std::make_unique<RangeClaims::Claim>());
        RangeClaims::Claim &added = *there.back();
        added.first = random() % 100;
        added.last = added.first + random() % longest;
        const bool is_granted = claims.add(added);
        REQUIRE(is_granted == is_due(there.size() - 1));
      } else if (!there.empty()) {
        const size_t at = random() % there.size();
        const std::unique_ptr<RangeClaims::Claim> removed = std::move(there[at]);
        there.erase(there.begin() + static_cast<ptrdiff_t>(at));
        std::set<RangeClaims::Claim *> before;
        for (const auto &claim : there)
          if (!claim->is_granted)
            before.insert(claim.get());
        std::set<RangeClaims::Claim *> granted;
        for (auto *claim = claims.remove(*removed); claim != nullptr; claim = claim->next_granted) {
          REQUIRE(before.contains(claim));
          REQUIRE(granted.insert(claim).second);
        }
      }
      for (size_t i = 0; i < there.size(); i++)
        REQUIRE(there[i]->is_granted == is_due(i));
    }
  }
}

// Where each took a look at all others, this would take hours.
TEST_CASE("a hundred thousand claims are handled quickly") {
  constexpr size_t CLAIMS = 200'000;
  RangeClaims claims;
  std::vector<RangeClaims::Claim> all(CLAIMS);
  uint64_t apart = 0;
  SUBCASE("of the same block") {}
  SUBCASE("of each its own, with one of all at the front") {
    apart = 1;
  }
  RangeClaims::Claim front{};
  front.last = CLAIMS;
  REQUIRE(claims.add(front));
  for (size_t i = 0; i < CLAIMS; i++) {
    all[i].first = all[i].last = i * apart;
    CHECK_FALSE(claims.add(all[i]));
  }
  size_t granted = 0;
  for (RangeClaims::Claim *claim = claims.remove(front); claim != nullptr; granted++)
    claim = claim->next_granted;
  CHECK(granted == (apart == 0 ? 1 : CLAIMS));
  for (size_t i = 0; i < CLAIMS; i++) {
    REQUIRE(all[i].is_granted);
    claims.remove(all[i]);
  }
}
