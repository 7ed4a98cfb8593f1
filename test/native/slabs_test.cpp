// Objects side by side: each has a place of its own, and empty slabs go back to the system.
#include <doctest/doctest.h>

#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "base/slabs.hpp"

using namespace asyncnbd::base;

namespace {

struct alignas(64) Thing {
  explicit Thing(uint64_t number, int *ended = nullptr) : number(number), ended(ended) {}
  ~Thing() {
    if (ended != nullptr)
      ++*ended;
  }
  uint64_t number;
  int *ended;
  Thing *next = nullptr;
  uint8_t more[80]{};
};

constexpr size_t MOST_KEPT_BYTES = 4 * (64 << 10);

} // namespace

TEST_CASE("objects made and ended in any order by many threads never share a place") {
  SlabsOf<Thing> slabs;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; t++)
    threads.emplace_back([&slabs, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      std::vector<Thing *> held;
      for (uint64_t i = 0; i < 20'000; i++) {
        held.push_back(slabs.make(t << 32 | i));
        if (random() % 3 == 0) {
          std::swap(held[random() % held.size()], held.back());
          CHECK((held.back()->number >> 32) == t);
          SlabsOf<Thing>::destroy(held.back());
          held.pop_back();
        }
      }
      CHECK(std::set<Thing *>(held.begin(), held.end()).size() == held.size());
      for (Thing *thing : held) {
        CHECK((thing->number >> 32) == t);
        CHECK(reinterpret_cast<uintptr_t>(thing) % alignof(Thing) == 0);
        SlabsOf<Thing>::destroy(thing);
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(slabs.mapped_bytes() <= MOST_KEPT_BYTES);
}

TEST_CASE("memory of ended objects goes back to the system and is used again") {
  SlabsOf<Thing> slabs;
  for (int round = 0; round < 3; round++) {
    int ended = 0;
    Thing *chain = nullptr;
    for (uint64_t i = 0; i < 10'000; i++) {
      Thing *thing = slabs.make(i, &ended);
      REQUIRE(thing != nullptr);
      thing->next = std::exchange(chain, thing);
    }
    CHECK(slabs.mapped_bytes() >= 10'000 * sizeof(Thing));
    SlabsOf<Thing>::destroy_chain(chain);
    CHECK(ended == 10'000);
    CHECK(slabs.mapped_bytes() <= MOST_KEPT_BYTES);
  }
}

TEST_CASE("slabs that are in use are filled before an empty one") {
  SlabsOf<Thing> slabs;
  std::vector<Thing *> things;
  while (slabs.mapped_bytes() <= 2 * (64 << 10))
    things.push_back(slabs.make(things.size()));
  // Of the first slab one remains, of the second none, of the third its first.
  Thing *first = things.front();
  Thing *last = things.back();
  for (Thing *thing : things)
    if (thing != first && thing != last)
      SlabsOf<Thing>::destroy(thing);
  auto slab = [](const Thing *thing) { return reinterpret_cast<uintptr_t>(thing) >> 16; };
  Thing *next = slabs.make(0u);
  CHECK((slab(next) == slab(first) || slab(next) == slab(last)));
  for (Thing *thing : {first, last, next})
    SlabsOf<Thing>::destroy(thing);
}

TEST_CASE("a chain may have objects of several owners") {
  SlabsOf<Thing> one;
  SlabsOf<Thing> other;
  int ended = 0;
  Thing *chain = nullptr;
  for (uint64_t i = 0; i < 6'000; i++) {
    Thing *thing = (i % 3 == 0 ? one : other).make(i, &ended);
    thing->next = std::exchange(chain, thing);
  }
  SlabsOf<Thing>::destroy_chain(chain);
  CHECK(ended == 6'000);
  CHECK(one.mapped_bytes() <= MOST_KEPT_BYTES);
  CHECK(other.mapped_bytes() <= MOST_KEPT_BYTES);
}
