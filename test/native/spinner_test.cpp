// How often and how long a thread looks again before it sleeps, and how far ahead of its clients
// one sends.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>

#include "schedule/send_ahead_limit.hpp"
#include "schedule/spinner.hpp"
#include "simulation.hpp"

using namespace std::chrono_literals;
using namespace asyncnbd::schedule;

namespace {

constexpr unsigned BUDGET_US = 50;
constexpr int CHANCES_PASSED_UP = 15; // before one is taken again
constexpr int MAX_CREDIT = 16;

struct Spinning {
  explicit Spinning(unsigned cores = 2, unsigned budget_us = BUDGET_US)
      : limit(cores), spinner(clock, limit, budget_us) {}

  // A chance that pays off, or does not.
  bool spin(bool pays) {
    return spinner.spin([&] {
      looks++;
      clock.advance(10us);
      return pays;
    });
  }
  // One that finds something after this time.
  void look_for(asyncnbd::base::Duration time) {
    CHECK(spinner.spin([&] {
      clock.advance(time);
      return true;
    }));
  }
  // So many chances, none of which pays off, are passed up.
  bool passes_up(int chances) {
    const int before = looks;
    for (int i = 0; i < chances; i++)
      spin(false);
    return looks == before;
  }
  bool takes_and_fails() {
    const int before = looks;
    return !spin(false) && looks > before;
  }

  SimulatedClock clock;
  SpinLimit limit;
  Spinner spinner;
  int looks = 0;
};

} // namespace

TEST_CASE("a spinner looks until something is ready or its time is over") {
  Spinning spinning;
  int looks = 0;
  CHECK(spinning.spinner.spin([&] {
    spinning.clock.advance(10us);
    return ++looks == 3;
  }));
  CHECK(looks == 3);
  CHECK_FALSE(spinning.spin(false));
  CHECK(spinning.looks == 5);
}

TEST_CASE("a success at the last look counts, however long the look took") {
  Spinning spinning;
  CHECK(spinning.spinner.spin([&] {
    spinning.clock.advance(1s);
    return true;
  }));
}

TEST_CASE("without a budget nobody spins") {
  Spinning spinning(2, 0);
  CHECK_FALSE(spinning.spin(true));
  CHECK(spinning.looks == 0);
}

TEST_CASE("if spinning does not pay, one chance in sixteen is taken") {
  Spinning spinning;
  CHECK(spinning.takes_and_fails());
  for (int round = 0; round < 3; round++) {
    CHECK(spinning.passes_up(CHANCES_PASSED_UP));
    CHECK(spinning.takes_and_fails());
  }
}

TEST_CASE("a success gives credit for one more failure, up to sixteen") {
  Spinning spinning;
  CHECK(spinning.spin(true));
  CHECK(spinning.takes_and_fails());
  CHECK(spinning.takes_and_fails());
  CHECK(spinning.passes_up(CHANCES_PASSED_UP));
  for (int i = 0; i < 100; i++)
    CHECK(spinning.spin(true));
  for (int i = 0; i < MAX_CREDIT; i++)
    CHECK(spinning.takes_and_fails());
  CHECK(spinning.passes_up(CHANCES_PASSED_UP));
}

TEST_CASE("one core stays free for the thread that makes something ready") {
  for (const unsigned cores : {0u, 1u}) {
    Spinning alone(cores);
    CHECK_FALSE(alone.spin(true));
    CHECK(alone.looks == 0);
  }
  SpinLimit limit(3);
  SimulatedClock clock;
  CHECK(limit.enter(clock));
  CHECK(limit.enter(clock));
  CHECK_FALSE(limit.enter(clock));
  limit.leave();
  CHECK(limit.enter(clock));
  CHECK_FALSE(limit.enter(clock));
}

TEST_CASE("where other work waits for the core, nobody spins for a while") {
  Spinning spinning;
  Spinner second(spinning.clock, spinning.limit, BUDGET_US);
  auto look = [] { return true; };
  for (int i = 0; i < 100; i++)
    spinning.look_for(499us); // as a client takes for much data
  CHECK(second.spin(look));
  for (int i = 0; i < 10; i++) {
    CHECK(second.spin(look));
    spinning.look_for(3ms); // another thread's slice
  }
  CHECK_FALSE(second.spin(look));
  spinning.clock.advance(499ms);
  CHECK_FALSE(second.spin(look));
  CHECK_FALSE(spinning.spin(true));
  spinning.clock.advance(1ms);
  CHECK(second.spin(look));
  CHECK(spinning.spin(true));
}

TEST_CASE("rests become longer as long as the other work goes on") {
  Spinning spinning;
  auto rest_after_long_looks = [&](asyncnbd::base::Duration look) {
    for (int i = 0; i < 6; i++)
      spinning.look_for(look);
    int rest_ms = 0;
    for (; !spinning.spin(true); rest_ms++)
      spinning.clock.advance(1ms);
    return rest_ms;
  };
  for (const int rest_ms : {500, 1000, 2000, 4000, 8000, 8000})
    CHECK(rest_after_long_looks(12ms) == rest_ms);
  for (const auto slices : {15ms, 60ms, 200ms}) { // of several threads, one after the other
    spinning.clock.advance(11s);                  // without a long look
    CHECK(rest_after_long_looks(slices) == 500);
  }
}

TEST_CASE("a long look now and then is no reason to rest") {
  Spinning spinning;
  for (int i = 0; i < 20; i++) {
    spinning.look_for(20ms);
    spinning.clock.advance(60ms);
  }
  for (int i = 0; i < 100; i++) { // as a compiler's thread takes now and then
    for (int j = 0; j < 3; j++)
      spinning.look_for(2ms);
    spinning.clock.advance(20ms);
  }
}

TEST_CASE("what takes long and finds nothing has kept nobody waiting") {
  Spinning spinning;
  CHECK(spinning.spin(true));
  for (int i = 0; i < 100; i++) {
    CHECK_FALSE(spinning.spinner.spin([&] {
      spinning.clock.advance(3ms);
      return false;
    }));
    CHECK(spinning.spin(true)); // no rest, and credit for one more failure
  }
}

TEST_CASE("a chance lost because no core is free costs no credit") {
  Spinning first;
  Spinner second(first.clock, first.limit, BUDGET_US);
  int looks = 0;
  auto look = [&] {
    looks++;
    return true;
  };
  CHECK(first.spinner.spin([&] {
    for (int i = 0; i < 100; i++)
      CHECK_FALSE(second.spin(look));
    return true;
  }));
  CHECK(looks == 0);
  CHECK(second.spin(look));
}

namespace {

constexpr size_t STEP = 96 << 10;
constexpr int MARKS = 4;
constexpr int SKIPS = 16;

// Reads its last bytes when it has been looked at so many times.
struct Reader final : Receiver {
  Reader(SimulatedClock &clock, asyncnbd::base::Duration look_takes, int reads_after)
      : clock(clock), look_takes(look_takes), reads_after(reads_after) {}

  size_t unread_bytes() const override {
    clock.advance(look_takes);
    return ++looks > reads_after ? 0 : 1;
  }

  SimulatedClock &clock;
  const asyncnbd::base::Duration look_takes;
  const int reads_after;
  mutable int looks = 0;
};

constexpr int NEVER = 1'000'000;

struct Sending {
  SimulatedClock clock;
  SendAheadLimit limit{clock};

  std::shared_ptr<Reader> reader(asyncnbd::base::Duration look_takes, int reads_after) {
    return std::make_shared<Reader>(clock, look_takes, reads_after);
  }
  void send(const std::shared_ptr<Reader> &reader, int steps) {
    for (int i = 0; i < steps; i++)
      limit.sent(reader, STEP);
  }
};

} // namespace

TEST_CASE("after each step a sender checks the receiver of four steps ago") {
  Sending sending;
  auto first = sending.reader(0us, 0);
  auto others = sending.reader(0us, 0);
  sending.send(first, 1);
  sending.send(others, MARKS - 1);
  CHECK(first->looks == 0);
  sending.send(others, 1);
  CHECK(first->looks == 1);
  CHECK(others->looks == 0);
  sending.send(others, MARKS);
  CHECK(first->looks == 1);
  CHECK(others->looks == MARKS);
}

TEST_CASE("a step is 96 KiB, in any number of pieces") {
  Sending sending;
  auto reader = sending.reader(0us, 0);
  sending.send(reader, MARKS);
  for (size_t sent = 4096; sent < STEP; sent += 4096)
    sending.limit.sent(reader, 4096);
  CHECK(reader->looks == 0);
  sending.limit.sent(reader, 4096);
  CHECK(reader->looks == 1);
}

TEST_CASE("a sender waits until its client has read, for a moment") {
  Sending sending;
  auto soon = sending.reader(5us, 3);
  sending.send(soon, MARKS + 1);
  CHECK(soon->looks == 4);

  Sending blocked;
  auto never = blocked.reader(5us, NEVER);
  blocked.send(never, MARKS);
  const auto before = blocked.clock.time;
  blocked.send(never, 1);
  CHECK(blocked.clock.time - before >= 30us);
  CHECK(blocked.clock.time - before <= 45us);
  // And the next time again, as it did not take long.
  const int looks = never->looks;
  blocked.send(never, 1);
  CHECK(never->looks > looks);
}

TEST_CASE("after a long wait in vain sixteen checks are skipped") {
  Sending sending;
  auto never = sending.reader(2ms, NEVER);
  sending.send(never, MARKS + 1);
  const int looks = never->looks;
  CHECK(looks > 0);
  sending.send(never, SKIPS);
  CHECK(never->looks == looks);
  sending.send(never, 1);
  CHECK(never->looks > looks);
}

TEST_CASE("after a long wait that succeeded no check is skipped") {
  Sending sending;
  auto late = sending.reader(2ms, 3); // has read at the last look of all
  sending.send(late, MARKS + 1);
  const int looks = late->looks;
  CHECK(looks == 4);
  sending.send(late, 1);
  CHECK(late->looks == looks + 1);
}

TEST_CASE("a client that has gone is not waited for") {
  Sending sending;
  auto gone = sending.reader(5us, NEVER);
  sending.send(gone, MARKS);
  gone.reset();
  const auto before = sending.clock.time;
  sending.send(sending.reader(5us, NEVER), MARKS);
  CHECK(sending.clock.time == before);
}
