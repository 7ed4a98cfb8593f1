// Clients that do not go on: each is cut in its time, and earlier if others wait for its memory.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "base/memory_budget.hpp"
#include "schedule/stall_guard.hpp"
#include "simulation.hpp"

using namespace std::chrono_literals;
using asyncnbd::base::MemoryBudget;
using asyncnbd::base::Timers;
using asyncnbd::schedule::GuardedWait;
using asyncnbd::schedule::HeldMemory;
using asyncnbd::schedule::Stall;
using asyncnbd::schedule::Stallable;
using asyncnbd::schedule::StallGuard;
using asyncnbd::schedule::StallMeter;

namespace {

constexpr auto LIMIT = 300s;
constexpr uint64_t KIB = 1 << 10;

struct Waiter final : MemoryBudget::Waiter {
  void on_room() override {}
};

struct Client final : Stallable {
  HeldMemory memory{nullptr, 0, false};
  std::optional<std::chrono::milliseconds> cut_after;
  Stall cut_for{};
  int cuts = 0;
  std::unique_ptr<GuardedWait> wait;

  void on_stall(Stall stall, std::chrono::milliseconds lasts) override {
    cut_after = lasts;
    cut_for = stall;
    cuts++;
  }
  HeldMemory held_memory() const override { return memory; }
};

struct Simulation {
  SimulatedClock clock;
  SimulatedThreads threads;
  Timers timers{clock, threads};
  StallGuard guard{clock, timers};
  MemoryBudget budget{100};
  Waiter holder;
  std::vector<std::unique_ptr<Waiter>> waiters;

  Simulation() {
    budget.take(100, holder, 0);
    budget.take(100, holder, 0); // the reserve
  }
  void stand_in_line(uint64_t bytes) {
    budget.take(bytes, *waiters.emplace_back(std::make_unique<Waiter>()), 0);
  }
  std::unique_ptr<Client> stalled_client(uint64_t shared_bytes, bool has_reserve = false,
                                         asyncnbd::base::Duration slow_for = 0s) {
    auto client = std::make_unique<Client>();
    client->memory = {&budget, shared_bytes, has_reserve};
    client->wait = std::make_unique<GuardedWait>(guard, *client, Stall::sends_nothing,
                                                 clock.now() - slow_for, LIMIT);
    return client;
  }
  void pass(asyncnbd::base::Duration time) {
    for (const auto end = clock.now() + time; clock.now() < end;) {
      clock.advance(50ms);
      timers.run_due();
    }
  }
};

} // namespace

TEST_CASE("a client that delays nobody is cut at its limit and not before") {
  Simulation at;
  const auto client = at.stalled_client(50);
  at.pass(LIMIT - 1s);
  CHECK_FALSE(client->cut_after);
  at.pass(2s);
  REQUIRE(client->cut_after);
  CHECK(*client->cut_after >= LIMIT);
}

TEST_CASE("each slow client is cut once, at its own limit, with what it failed to do") {
  Simulation at;
  Client sender;
  Client receiver;
  const GuardedWait sends(at.guard, sender, Stall::sends_nothing, at.clock.now() - 2s, 3s);
  const GuardedWait takes(at.guard, receiver, Stall::takes_nothing, at.clock.now() - 5s, 7s);
  at.pass(950ms);
  CHECK(sender.cuts == 0);
  at.pass(300ms); // it is looked four times a second
  CHECK(sender.cut_for == Stall::sends_nothing);
  REQUIRE(sender.cut_after);
  CHECK(*sender.cut_after >= 3s);
  CHECK(*sender.cut_after < 3300ms);
  CHECK(receiver.cuts == 0);
  at.pass(1h);
  CHECK(receiver.cut_for == Stall::takes_nothing);
  REQUIRE(receiver.cut_after);
  CHECK(*receiver.cut_after < 7300ms);
  CHECK(sender.cuts == 1);
  CHECK(receiver.cuts == 1);
}

TEST_CASE("a client that makes progress is not cut, and without waits nobody checks") {
  Simulation at;
  CHECK(at.timers.size() == 0);
  const auto first = at.stalled_client(50);
  const auto second = at.stalled_client(50);
  CHECK(at.timers.size() == 1);
  first->wait.reset();
  at.pass(LIMIT + 1s);
  CHECK_FALSE(first->cut_after);
  CHECK(second->cut_after);
  second->wait.reset();
  at.pass(1s);
  CHECK(at.timers.size() == 0);
  const auto third = at.stalled_client(50);
  at.pass(LIMIT + 1s);
  CHECK(third->cut_after);
}

TEST_CASE("constant waits for other clients do not stop the checks") {
  Simulation at;
  Client client;
  const GuardedWait wait(at.guard, client, Stall::sends_nothing, at.clock.now(), 1s);
  for (int i = 0; i < 30; i++) {
    at.stalled_client(50); // and goes on
    at.pass(50ms);
  }
  CHECK(client.cut_after);
}

TEST_CASE("the slowest client is cut, and no other if its memory suffices") {
  Simulation at;
  const auto first = at.stalled_client(50, false, 1s);
  const auto slowest = at.stalled_client(50, false, 2s);
  const auto last = at.stalled_client(50);
  at.stand_in_line(50);
  at.pass(20s);
  CHECK_FALSE(first->cut_after);
  CHECK(slowest->cut_after);
  CHECK_FALSE(last->cut_after);
}

TEST_CASE("without a thread nobody is cut until a later wait gets one") {
  Simulation at;
  at.threads.has_any = false;
  const auto early = at.stalled_client(50);
  at.pass(LIMIT + 1s);
  CHECK_FALSE(early->cut_after);
  at.threads.has_any = true;
  const auto late = at.stalled_client(50);
  at.pass(1s);
  CHECK(early->cut_after);
  CHECK_FALSE(late->cut_after);
}

TEST_CASE("a client that delays others is cut after ten seconds, or three with the reserve") {
  for (const bool has_reserve : {false, true}) {
    Simulation at;
    const auto client = at.stalled_client(50, has_reserve, 200ms);
    at.stand_in_line(1);
    const auto limit = has_reserve ? 3s : 10s;
    at.pass(limit - 250ms); // the last look is 50 ms too early
    CHECK_FALSE(client->cut_after);
    at.pass(250ms);
    CHECK(client->cut_after);
  }
}

TEST_CASE("cutting one server's clients does not help those waiting at another") {
  Simulation at;
  Simulation other;
  const auto here = at.stalled_client(50);
  const auto there = at.stalled_client(50);
  there->memory.budget = &other.budget;
  at.stand_in_line(1);
  at.pass(11s);
  CHECK(here->cut_after);
  CHECK_FALSE(there->cut_after);
  other.stand_in_line(1);
  at.pass(1s);
  CHECK(there->cut_after);
}

TEST_CASE("the holder of the reserve is cut after three seconds if others wait") {
  Simulation at;
  const auto client = at.stalled_client(50, true);
  at.pass(20s);
  CHECK_FALSE(client->cut_after);
  at.stand_in_line(1);
  const auto next = at.stalled_client(50, true);
  const auto other = at.stalled_client(50);
  at.pass(2s);
  CHECK(client->cut_after);
  CHECK_FALSE(next->cut_after);
  at.pass(2s);
  CHECK(next->cut_after);
  CHECK_FALSE(other->cut_after);
}

TEST_CASE("as many delaying clients are cut as are needed to free the wanted memory") {
  Simulation at;
  const auto slowest = at.stalled_client(50);
  at.pass(1s);
  const auto second = at.stalled_client(50);
  const auto poor = at.stalled_client(0); // has nothing that anybody waits for
  at.pass(1s);
  const auto third = at.stalled_client(50);
  at.pass(5s);
  at.stand_in_line(60);
  at.stand_in_line(30);
  at.pass(7s);
  CHECK(slowest->cut_after);
  CHECK(second->cut_after);
  CHECK_FALSE(poor->cut_after);
  CHECK_FALSE(third->cut_after); // what the others had is on its way
  slowest->wait.reset();         // it has come, and was not enough
  at.pass(1s);
  CHECK(third->cut_after);
}

TEST_CASE("a client slow in both directions is counted once and cut once") {
  Simulation at;
  const auto slowest = at.stalled_client(50, false, 2s);
  const GuardedWait takes(at.guard, *slowest, Stall::takes_nothing, at.clock.now() - 1s, LIMIT);
  const auto second = at.stalled_client(50);
  const auto third = at.stalled_client(50);
  at.stand_in_line(60);
  at.pass(11s);
  CHECK(slowest->cuts == 1);
  CHECK(slowest->cut_for == Stall::sends_nothing);
  CHECK(second->cuts + third->cuts == 1);
  at.pass(11s);
  CHECK(slowest->cuts == 1);
}

TEST_CASE("several clients are cut at once if several wait") {
  Simulation at;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 100; i++) {
    clients.push_back(at.stalled_client(10));
    at.stand_in_line(10);
  }
  at.pass(11s);
  for (const auto &client : clients)
    CHECK(client->cut_after);
}

TEST_CASE(
    "a client counts as slow since it last moved 128 KiB, began a part, or was first waited for") {
  SimulatedClock clock;
  StallMeter meter;
  const auto begin = clock.now();
  CHECK(meter.slow_since(clock.now(), 0, 1) == begin);
  clock.advance(1s);
  CHECK(meter.slow_since(clock.now(), 127 * KIB, 1) == begin);
  clock.advance(1s);
  CHECK(meter.slow_since(clock.now(), 128 * KIB, 1) == clock.now());
  clock.advance(1s);
  CHECK(meter.slow_since(clock.now(), 128 * KIB, 2) == clock.now());
  clock.advance(20s);
  meter.restart(clock.now());
  const auto restarted = clock.now();
  clock.advance(1s);
  CHECK(meter.slow_since(clock.now(), 128 * KIB, 2) == restarted);
}
