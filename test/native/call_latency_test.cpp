// After which calls a backend counts as quick or as slow, and how soon it is thought better of.
#include <doctest/doctest.h>

#include <chrono>

#include "schedule/call_latency.hpp"
#include "simulation.hpp"

using namespace std::chrono_literals;
using asyncnbd::base::Duration;
using asyncnbd::schedule::CallLatency;

namespace {

struct CountingClock final : asyncnbd::base::Clock {
  asyncnbd::base::Time time{1h};
  mutable int reads = 0;

  asyncnbd::base::Time now() const override {
    reads++;
    return time;
  }
};

struct Simulation {
  CountingClock clock;
  CallLatency latency{clock};

  void call(Duration duration, int times = 1) {
    for (int i = 0; i < times; i++) {
      CallLatency::Timed timed(latency);
      clock.time += duration;
    }
  }
  // How many of so many calls are timed.
  int timed_of(int times, Duration duration) {
    const int before = clock.reads;
    call(duration, times);
    return (clock.reads - before) / 2; // at its beginning and at its end
  }
};

constexpr int KNOWN_AFTER = 16;

} // namespace

TEST_CASE("sixteen calls are needed before a plugin counts as quick") {
  Simulation simulation;
  CHECK_FALSE(simulation.latency.is_quick());
  CHECK_FALSE(simulation.latency.is_slow());
  simulation.call(1us, KNOWN_AFTER - 1);
  CHECK_FALSE(simulation.latency.is_quick());
  simulation.call(1us);
  CHECK(simulation.latency.is_quick());
  CHECK_FALSE(simulation.latency.is_slow());
}

TEST_CASE("calls are quick up to 25 us on the average") {
  Simulation simulation;
  simulation.call(25us, 2000);
  CHECK(simulation.latency.is_quick());
  simulation.call(26us, 2000);
  CHECK_FALSE(simulation.latency.is_quick());
  simulation.call(24us, 2000);
  CHECK(simulation.latency.is_quick());
}

TEST_CASE("four calls in a row of 60 us or more count as slow") {
  Simulation simulation;
  simulation.call(59us, 100);
  CHECK_FALSE(simulation.latency.is_slow());
  simulation.call(60us, 3);
  CHECK_FALSE(simulation.latency.is_slow());
  simulation.call(60us);
  CHECK(simulation.latency.is_slow());
  CHECK_FALSE(simulation.latency.is_quick());
}

TEST_CASE("quick and slow calls cancel out; calls between the two limits do not count") {
  Simulation simulation;
  for (int i = 0; i < 100; i++) {
    simulation.call(100us);
    simulation.call(25us);
  }
  CHECK_FALSE(simulation.latency.is_slow());
  for (int i = 0; i < 4; i++) {
    CHECK_FALSE(simulation.latency.is_slow());
    simulation.call(100us);
    simulation.call(40us);
  }
  CHECK(simulation.latency.is_slow());
}

TEST_CASE("four quick calls clear any number of slow ones") {
  Simulation simulation;
  simulation.call(100us, 1000);
  simulation.call(40us, 1000); // neither one nor the other
  CHECK(simulation.latency.is_slow());
  simulation.call(25us, 3);
  CHECK(simulation.latency.is_slow());
  simulation.call(25us);
  CHECK_FALSE(simulation.latency.is_slow());
}

TEST_CASE("one in sixteen quick calls is timed, and every other call") {
  Simulation simulation;
  CHECK(simulation.timed_of(KNOWN_AFTER, 1us) == KNOWN_AFTER);
  CHECK(simulation.timed_of(160, 1us) == 10);
  Simulation medium;
  medium.call(50us, 100);
  CHECK(medium.timed_of(160, 50us) == 160);
  Simulation slow;
  slow.call(1ms, 100);
  CHECK(slow.timed_of(160, 1ms) == 160);
  // As soon as they are slow, though quick yet on the average.
  Simulation late;
  late.call(0us, KNOWN_AFTER);
  late.call(60us, 3 * 16 + 1); // of which four are timed
  CHECK((late.latency.is_slow() && late.latency.is_quick()));
  CHECK(late.timed_of(10, 60us) == 10);
}

TEST_CASE("one call of an hour ends quickness for no longer than one of a millisecond") {
  for (const Duration longest : {Duration(1ms), Duration(1h)}) {
    Simulation simulation;
    simulation.call(0us, KNOWN_AFTER);
    REQUIRE(simulation.latency.is_quick());
    simulation.call(longest); // the first of the next sixteen, which is timed
    CHECK_FALSE(simulation.latency.is_quick());
    simulation.call(0us, 14);
    CHECK_FALSE(simulation.latency.is_quick());
    simulation.call(0us);
    CHECK(simulation.latency.is_quick());
  }
}

TEST_CASE("requests without a call count as quick until calls are known to be quick") {
  Simulation simulation;
  for (int i = 0; i < KNOWN_AFTER; i++)
    simulation.latency.count_none();
  CHECK(simulation.latency.is_quick());
  CHECK(simulation.clock.reads == 0);

  Simulation slow;
  slow.call(100us, 4);
  for (int i = 0; i < 4; i++)
    slow.latency.count_none();
  CHECK_FALSE(slow.latency.is_slow());

  // They say nothing of how long calls take, where there are some.
  Simulation almost;
  almost.call(24us, 3200);
  REQUIRE(almost.latency.is_quick());
  for (int i = 0; i < 1000; i++)
    almost.latency.count_none();
  almost.call(100us);
  CHECK_FALSE(almost.latency.is_quick());
}

TEST_CASE("a call noticed while it runs counts as slow at once") {
  Simulation simulation;
  simulation.call(0us, KNOWN_AFTER);
  REQUIRE(simulation.latency.is_quick());
  simulation.latency.count_slow_call();
  CHECK_FALSE(simulation.latency.is_quick());
  CHECK_FALSE(simulation.latency.is_slow());
  for (int i = 1; i < 4; i++)
    simulation.latency.count_slow_call();
  CHECK(simulation.latency.is_slow());
}
