// Memory for requests in flight: never more than allowed, never a waiter forgotten.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "connection/memory_budget.hpp"
#include "support.hpp"

using asyncnbd::connection::MemoryBudget;

namespace {

struct Waiter final : MemoryBudget::Waiter {
  std::atomic<int> told{0};
  std::atomic<uint64_t> wakes{0};
  void on_room() override {
    told++;
    wakes++;
    wakes.notify_all();
  }
};

} // namespace

TEST_CASE("what does not fit waits for room, in the order of asking") {
  MemoryBudget budget(100);
  Waiter first;
  Waiter second;
  Waiter third;
  CHECK(budget.take(80, first));
  CHECK_FALSE(budget.take(30, second));
  CHECK_FALSE(budget.take(10, third)); // would fit, but its turn has not come
  budget.give_back(80);
  CHECK(second.told >= 1);
  CHECK(budget.take(30, second));
  CHECK(third.told >= 1);
  CHECK(budget.take(10, third));
  CHECK(budget.taken_bytes() == 40);
}

TEST_CASE("more than the whole goes alone") {
  MemoryBudget budget(100);
  Waiter waiter;
  CHECK(budget.take(1, waiter));
  CHECK_FALSE(budget.take(1000, waiter));
  budget.give_back(1);
  CHECK(waiter.told >= 1);
  CHECK(budget.take(1000, waiter));
  CHECK_FALSE(budget.take(1, waiter));
}

TEST_CASE("who leaves the line makes way for the next") {
  MemoryBudget budget(100);
  Waiter first;
  Waiter second;
  CHECK(budget.take(50, first));
  CHECK_FALSE(budget.take(60, first));
  CHECK_FALSE(budget.take(50, second));
  budget.leave(first);
  CHECK(second.told >= 1);
  CHECK(budget.take(50, second));
}

TEST_CASE("a connection's part is also the server's") {
  MemoryBudget server(100);
  MemoryBudget one(80, &server);
  MemoryBudget other(80, &server);
  Waiter waiter;
  Waiter other_waiter;
  CHECK(one.take(80, waiter));
  CHECK_FALSE(one.take(10, waiter));
  one.leave(waiter);
  CHECK_FALSE(other.take(30, other_waiter));
  CHECK(other.taken_bytes() == 0);
  one.give_back(80);
  CHECK(other_waiter.told >= 1);
  CHECK(other.take(30, other_waiter));
  CHECK(server.taken_bytes() == 30);
}

TEST_CASE("threads that take and give back never exceed it, and none waits for ever") {
  constexpr uint64_t LIMIT = 1000;
  MemoryBudget budget(LIMIT);
  std::atomic<bool> exceeded{false};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; t++)
    threads.emplace_back([&, t] {
      Waiter waiter;
      for (uint64_t i = 0; i < 5000; i++) {
        const uint64_t bytes = 1 + (i * 7 + t * 131) % 600;
        for (;;) {
          const uint64_t wakes = waiter.wakes;
          if (budget.take(bytes, waiter))
            break;
          waiter.wakes.wait(wakes);
        }
        if (budget.taken_bytes() > LIMIT)
          exceeded = true;
        budget.give_back(bytes);
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK_FALSE(exceeded);
  CHECK(budget.taken_bytes() == 0);
}
