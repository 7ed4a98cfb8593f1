// Memory for requests in flight: never more than allowed, never a waiter forgotten, and no
// connection without any.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/memory_budget.hpp"
#include "nbd/memory_account.hpp"
#include "support.hpp"

using asyncnbd::base::MemoryBudget;
using asyncnbd::nbd::MemoryAccount;
using asyncnbd::nbd::MemoryCharge;
using Source = MemoryBudget::Source;

namespace {

struct Waiter final : MemoryBudget::Waiter {
  std::atomic<int> notified{0};
  std::atomic<uint64_t> wakes{0};
  void on_room() override {
    notified++;
    wakes++;
    wakes.notify_all();
  }
};

constexpr uint64_t MIB = 1 << 20;

// Of 100 bytes, whose reserve somebody has, and so many bytes.
struct WithoutReserve : MemoryBudget {
  ::Waiter holder;

  explicit WithoutReserve(uint64_t held_bytes = 0) : MemoryBudget(100) {
    REQUIRE(take(1000, holder, 0) == Source::reserve);
    if (held_bytes > 0)
      REQUIRE(take(held_bytes, holder, 0) == Source::memory);
  }
};

} // namespace

TEST_CASE("requests that do not fit wait for room in order") {
  WithoutReserve budget;
  Waiter first;
  Waiter second;
  Waiter third;
  CHECK(budget.take(80, first, 0) == Source::memory);
  CHECK(budget.take(30, second, 0) == Source::nothing);
  CHECK(budget.take(10, third, 0) == Source::nothing); // would fit, but its turn has not come
  CHECK(budget.is_short());
  budget.give_back(80);
  CHECK(second.notified >= 1);
  CHECK(budget.take(30, second, 0) == Source::memory);
  CHECK(third.notified >= 1);
  CHECK(budget.take(10, third, 0) == Source::memory);
  CHECK(budget.taken_bytes() == 40);
  CHECK_FALSE(budget.is_short());
}

TEST_CASE("the reserve goes to one waiter at a time, the one that waited longest") {
  MemoryBudget budget(100);
  Waiter waiter;
  Waiter first;
  Waiter second;
  CHECK(budget.take(100, waiter, 0) == Source::memory);
  CHECK(budget.take(50, first, 0) == Source::reserve);
  CHECK(budget.take(1, second, 0) == Source::nothing);
  budget.give_back_reserve();
  CHECK(second.notified >= 1);
  CHECK(budget.take(1, second, 0) == Source::reserve);
  CHECK(budget.taken_bytes() == 100);
}

TEST_CASE("the waiter that needs least is next, for memory and for the reserve") {
  WithoutReserve budget(100);
  Waiter largest;
  Waiter large;
  Waiter small;
  Waiter newcomer;
  CHECK(budget.take(20, largest, 300) == Source::nothing);
  CHECK(budget.take(10, large, 200) == Source::nothing);
  CHECK(budget.take(10, small, 100) == Source::nothing);
  CHECK(budget.wanted_bytes() == 40);
  const int notified = largest.notified + large.notified + newcomer.notified;
  budget.give_back(20);
  CHECK(largest.notified + large.notified + newcomer.notified == notified);
  CHECK(small.notified >= 1);
  CHECK(budget.take(20, largest, 300) == Source::nothing);
  CHECK(budget.take(10, newcomer, 0) == Source::memory);
  CHECK(budget.take(10, small, 100) == Source::memory);
  CHECK(large.notified >= 1);
  budget.give_back_reserve();
  CHECK(budget.take(20, largest, 300) == Source::nothing);
  CHECK(budget.take(10, large, 200) == Source::reserve);
  CHECK(budget.wanted_bytes() == 20);
}

TEST_CASE("the next in line gets the reserve if it is free, though there is memory") {
  WithoutReserve budget(100);
  Waiter first;
  Waiter second;
  CHECK(budget.take(10, first, 0) == Source::nothing);
  CHECK(budget.take(10, second, 0) == Source::nothing);
  budget.give_back_reserve();
  budget.give_back(100);
  CHECK(budget.take(10, first, 0) == Source::reserve);
  CHECK(budget.take(10, second, 0) == Source::memory);
}

// Each of which takes the reserve, gives it back and comes again.
TEST_CASE("small requests that keep coming do not keep a large one from the reserve") {
  WithoutReserve budget(100);
  Waiter large;
  Waiter small[2];
  CHECK(budget.take(10, large, 90) == Source::nothing);
  CHECK(budget.take(10, small[0], 0) == Source::nothing);
  CHECK(budget.take(10, small[1], 0) == Source::nothing);
  int small_turns = 0;
  for (;; small_turns++) {
    REQUIRE(small_turns < 10);
    budget.give_back_reserve();
    if (budget.take(10, large, 90) == Source::reserve)
      break;
    Waiter &next = small[small_turns % 2];
    CHECK(budget.take(10, next, 0) == Source::reserve);
    CHECK(budget.take(10, next, 0) == Source::nothing);
  }
  CHECK(small_turns >= 2);
}

TEST_CASE("a waiter that leaves the queue lets the next one go on") {
  WithoutReserve budget;
  Waiter first;
  Waiter second;
  CHECK(budget.take(50, first, 0) == Source::memory);
  CHECK(budget.take(60, first, 0) == Source::nothing);
  CHECK(budget.take(50, second, 0) == Source::nothing);
  budget.leave(first);
  CHECK(second.notified >= 1);
  CHECK(budget.take(50, second, 0) == Source::memory);
}

TEST_CASE("a connection's first 128 KiB need no room in the server's budget") {
  MemoryBudget server(MIB);
  Waiter waiter;
  MemoryAccount greedy(256 * MIB, &server);
  MemoryAccount modest(256 * MIB, &server);
  MemoryCharge all;
  MemoryCharge reserve;
  MemoryCharge small;
  MemoryCharge more;
  CHECK(greedy.take(all, MIB, waiter));
  CHECK(greedy.take(reserve, MIB, waiter));
  CHECK(reserve.has_reserve);
  CHECK(modest.take(small, MemoryAccount::ALLOTTED_BYTES, waiter));
  CHECK_FALSE(modest.take(more, 1, waiter));
  CHECK(greedy.held().keeps_others_waiting());
  CHECK_FALSE(modest.held().keeps_others_waiting());
  modest.give_back(small);
  CHECK(modest.take(more, 1, waiter)); // and nobody stands in line any more
  CHECK_FALSE(server.is_short());
  greedy.give_back(all);
  greedy.give_back(reserve);
  modest.give_back(more);
  CHECK(server.taken_bytes() == 0);
}

TEST_CASE("a payload that has got the reserve gets all that it still needs") {
  MemoryBudget server(MIB);
  Waiter waiter;
  Waiter other_waiter;
  MemoryAccount one(256 * MIB, &server);
  MemoryAccount other(256 * MIB, &server);
  MemoryCharge payload;
  MemoryCharge others;
  CHECK(one.take(payload, MIB / 2, waiter));
  CHECK(other.take(others, MIB / 2, other_waiter));
  CHECK(one.take(payload, MIB, waiter));
  CHECK_FALSE(other.take(others, MIB, other_waiter));
  CHECK(one.take(payload, 60 * MIB, waiter));
  one.give_back(payload);
  CHECK(other_waiter.notified >= 1);
  CHECK(other.take(others, MIB, other_waiter));
  other.give_back(others);
  CHECK(server.taken_bytes() == 0);
}

TEST_CASE("a request that needs little is before a large one that has got nothing yet") {
  MemoryBudget server(MIB);
  Waiter waiter;
  Waiter large_waiter;
  Waiter small_waiter;
  MemoryAccount holder(256 * MIB, &server);
  MemoryAccount large(256 * MIB, &server);
  MemoryAccount small(256 * MIB, &server);
  MemoryCharge all;
  MemoryCharge reserve;
  CHECK(holder.take(all, MIB, waiter));
  CHECK(holder.take(reserve, MIB, waiter));
  MemoryCharge large_payload;
  MemoryCharge small_payload;
  large_payload.full_bytes = 64 * MIB;
  small_payload.full_bytes = 2 * MIB;
  CHECK_FALSE(large.take(large_payload, MIB / 4, large_waiter));
  CHECK_FALSE(small.take(small_payload, MIB / 2, small_waiter));
  holder.give_back(reserve);
  CHECK_FALSE(large.take(large_payload, MIB / 4, large_waiter));
  CHECK(small.take(small_payload, MIB / 2, small_waiter));
  CHECK(small_payload.has_reserve);
}

TEST_CASE("a connection that holds much already is behind one whose request needs as much") {
  MemoryBudget server(14 * MIB);
  Waiter waiter;
  Waiter hog_waiter;
  Waiter other_waiter;
  MemoryAccount holder(256 * MIB, &server);
  MemoryAccount hog(256 * MIB, &server);
  MemoryAccount other(256 * MIB, &server);
  MemoryCharge reserve;
  MemoryCharge rest;
  MemoryCharge unread;
  CHECK(hog.take(unread, 10 * MIB, hog_waiter));
  CHECK(holder.take(reserve, 5 * MIB, waiter));
  CHECK(holder.take(rest, 4 * MIB, waiter));
  REQUIRE(reserve.has_reserve);
  MemoryCharge more;
  MemoryCharge payload;
  payload.full_bytes = 16 * MIB;
  CHECK_FALSE(hog.take(more, MIB, hog_waiter));
  CHECK_FALSE(other.take(payload, MIB, other_waiter));
  holder.give_back(reserve);
  CHECK_FALSE(hog.take(more, MIB, hog_waiter));
  CHECK(other.take(payload, MIB, other_waiter));
}

TEST_CASE("a connection has a limit of its own, which a request that is alone may exceed") {
  Waiter waiter;
  MemoryAccount account(1000, nullptr);
  MemoryCharge giant;
  MemoryCharge next;
  CHECK(account.take(giant, 5000, waiter));
  CHECK(account.take(giant, 5000, waiter));
  CHECK_FALSE(account.take(next, 1, waiter));
  account.give_back(giant);
  CHECK(account.take(next, 1, waiter));
}

TEST_CASE("a client that has taken nothing yet gets 16 MiB, and more with what it takes") {
  Waiter waiter;
  MemoryAccount account(256 * MIB, nullptr);
  std::vector<MemoryCharge> charges(33);
  for (int i = 0; i < 16; i++)
    CHECK(account.take(charges[i], MIB, waiter));
  CHECK_FALSE(account.take(charges[16], MIB, waiter));
  account.give_back(charges[0]);
  CHECK(account.take(charges[16], MIB, waiter));
  CHECK(account.take(charges[17], MIB, waiter));
  CHECK_FALSE(account.take(charges[18], MIB, waiter));
}

TEST_CASE("memory charged later counts without waiting") {
  MemoryBudget server(MIB);
  Waiter waiter;
  MemoryAccount account(256 * MIB, &server);
  MemoryCharge charge;
  CHECK(account.take(charge, 512, waiter));
  account.add(charge, 3 * MIB);
  CHECK(server.taken_bytes() == 3 * MIB);
  account.give_back(charge);
  CHECK(server.taken_bytes() == 0);
}

TEST_CASE("a connection that has to wait for its own replies lets the next one go on") {
  MemoryBudget server(2 * MIB);
  Waiter waiter;
  CHECK(server.take(3 * MIB, waiter, 0) == Source::reserve);
  CHECK(server.take(MIB, waiter, 0) == Source::memory);
  MemoryAccount account(4 * MIB, &server);
  MemoryCharge earlier;
  CHECK(account.take(earlier, 512, waiter));
  Waiter first;
  Waiter second;
  MemoryCharge charge;
  CHECK_FALSE(account.take(charge, 2 * MIB, first));
  CHECK(server.take(MIB / 2, second, 8 * MIB) == Source::nothing);
  account.add(earlier, 5 * MIB); // which is more than its own limit
  CHECK_FALSE(account.take(charge, 2 * MIB, first));
  CHECK(second.notified >= 1);
  server.give_back(MIB);
  account.give_back(earlier);
  CHECK(server.take(MIB / 2, second, 8 * MIB) == Source::memory);
}

TEST_CASE("threads never exceed the budget, and none waits for ever") {
  constexpr uint64_t LIMIT = 1000;
  MemoryBudget budget(LIMIT);
  std::atomic<bool> exceeded{false};
  std::atomic<int> in_reserve{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; t++)
    threads.emplace_back([&, t] {
      Waiter waiter;
      for (uint64_t i = 0; i < 5000; i++) {
        const uint64_t bytes = 1 + (i * 7 + t * 131) % 600;
        const uint64_t total_bytes = i % 3;
        Source source;
        for (;;) {
          const uint64_t wakes = waiter.wakes;
          source = budget.take(bytes, waiter, total_bytes);
          if (source != Source::nothing)
            break;
          waiter.wakes.wait(wakes);
        }
        if (budget.taken_bytes() > LIMIT)
          exceeded = true;
        if (source == Source::memory) {
          budget.give_back(bytes);
          continue;
        }
        if (in_reserve.fetch_add(1) > 0)
          exceeded = true;
        in_reserve.fetch_sub(1);
        budget.give_back_reserve();
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK_FALSE(exceeded);
  CHECK(budget.taken_bytes() == 0);
}
