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
using asyncnbd::schedule::HeldMemory;
using asyncnbd::schedule::Stall;
using asyncnbd::schedule::Stallable;
using asyncnbd::schedule::StallGuard;
using asyncnbd::schedule::StallMeter;
using asyncnbd::schedule::StallWatch;

namespace {

constexpr auto LIMIT = 300s;
constexpr uint64_t KIB = 1 << 10;

struct Waiter final : MemoryBudget::Waiter {
  void on_room() override {}
};

struct Client final : Stallable {
  HeldMemory memory{nullptr, 0, false};
  std::optional<std::chrono::milliseconds> cut_after;
  std::unique_ptr<StallWatch> watch;

  void on_stall(Stall, std::chrono::milliseconds lasts) override { cut_after = lasts; }
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
  std::unique_ptr<Client> stalled_client(uint64_t shared_bytes, bool has_reserve = false) {
    auto client = std::make_unique<Client>();
    client->memory = {&budget, shared_bytes, has_reserve};
    client->watch =
        std::make_unique<StallWatch>(guard, *client, Stall::sends_nothing, clock.now(), LIMIT);
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

TEST_CASE("a client that keeps nobody waiting is cut after its limit, and not before") {
  Simulation at;
  const auto client = at.stalled_client(50);
  at.pass(LIMIT - 1s);
  CHECK_FALSE(client->cut_after);
  at.pass(2s);
  REQUIRE(client->cut_after);
  CHECK(*client->cut_after >= LIMIT);
}

TEST_CASE("who has the reserve gives way after three seconds if others wait") {
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

TEST_CASE("of clients that keep others waiting, as many are cut as have what is wanted") {
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
  slowest->watch.reset();        // it has come, and was not enough
  at.pass(1s);
  CHECK(third->cut_after);
}

TEST_CASE("several are cut at once if several wait") {
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

TEST_CASE("a client is slow since it has moved 128 KiB, begun another part, or was waited for") {
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
