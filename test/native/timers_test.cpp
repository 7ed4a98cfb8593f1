// Timers: each in its time and once, whatever is set and cancelled meanwhile.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "base/timers.hpp"
#include "simulation.hpp"

using namespace std::chrono_literals;
using asyncnbd::base::SystemClock;
using asyncnbd::base::Time;
using asyncnbd::base::Timer;
using asyncnbd::base::Timers;

namespace {

struct TestTimer final : Timer {
  std::function<void()> then = [] {};
  int calls = 0;

  void on_due() override {
    calls++;
    then();
  }
};

struct Simulation {
  SimulatedClock clock;
  SimulatedThreads threads;
  Timers timers{clock, threads};

  Time in(asyncnbd::base::Duration delay) const { return clock.time + delay; }
};

// Threads of the system's, for the tests of what happens at the same time.
struct RealThreads final : asyncnbd::base::Threads {
  bool run(std::function<void()> task) override { return start("", std::move(task)); }
  bool start(const char *, std::function<void()> task) override {
    std::thread(std::move(task)).detach();
    return true;
  }
};

// Never destroyed, for its thread is not.
Timers &real_timers() {
  static SystemClock clock;
  static RealThreads threads;
  static auto *timers = new Timers(clock, threads);
  return *timers;
}

} // namespace

TEST_CASE("a timer is called when it is due, and once") {
  Simulation simulation;
  TestTimer timer;
  CHECK(simulation.timers.set(timer, simulation.in(10ms)));
  CHECK(simulation.timers.run_due() == simulation.in(10ms));
  CHECK(timer.calls == 0);
  simulation.clock.advance(10ms);
  CHECK(simulation.timers.run_due() == std::nullopt);
  CHECK(timer.calls == 1);
  simulation.clock.advance(1h);
  simulation.timers.run_due();
  CHECK(timer.calls == 1);
}

TEST_CASE("a timer that is set again is due at the new time only") {
  Simulation simulation;
  TestTimer timer;
  simulation.timers.set(timer, simulation.in(10ms));
  simulation.timers.set(timer, simulation.in(30ms));
  CHECK(simulation.timers.size() == 1);
  simulation.clock.advance(20ms);
  simulation.timers.run_due();
  CHECK(timer.calls == 0);
  simulation.timers.set(timer, simulation.in(1ms));
  simulation.clock.advance(1ms);
  simulation.timers.run_due();
  CHECK(timer.calls == 1);
}

TEST_CASE("a timer that is cancelled is not called") {
  Simulation simulation;
  TestTimer timer;
  simulation.timers.set(timer, simulation.in(10ms));
  simulation.timers.cancel(timer);
  simulation.timers.cancel(timer);
  CHECK(simulation.timers.size() == 0);
  simulation.clock.advance(1h);
  simulation.timers.run_due();
  CHECK(timer.calls == 0);
}

TEST_CASE("a timer sets and cancels others, and itself, when it is called") {
  Simulation simulation;
  TestTimer timer;
  TestTimer cancelled;
  TestTimer later;
  timer.then = [&] {
    simulation.timers.cancel(timer); // it is not waited for, as it is itself that runs
    simulation.timers.cancel(cancelled);
    simulation.timers.set(later, simulation.clock.time);
    simulation.timers.set(timer, simulation.in(5ms));
  };
  simulation.timers.set(timer, simulation.in(1ms));
  simulation.timers.set(cancelled, simulation.in(1ms));
  simulation.clock.advance(1ms);
  CHECK(simulation.timers.run_due() == simulation.in(5ms));
  CHECK(timer.calls == 1);
  CHECK(cancelled.calls == 0);
  CHECK(later.calls == 1);
}

TEST_CASE("a time that cannot be waited for is refused") {
  Simulation simulation;
  simulation.threads.has_any = false;
  TestTimer timer;
  CHECK_FALSE(simulation.timers.set(timer, simulation.in(1ms)));
  CHECK(simulation.timers.size() == 0);
  simulation.threads.has_any = true;
  CHECK(simulation.timers.set(timer, simulation.in(1ms)));
}

TEST_CASE("a hundred thousand timers, set and cancelled in any order, fire on time") {
  constexpr size_t COUNT = 100'000;
  Simulation simulation;
  std::mt19937 random(1);
  auto any_delay = [&] { return std::chrono::microseconds(random() % 1'000'000); };
  std::vector<std::unique_ptr<TestTimer>> timers;
  std::vector<Time> due(COUNT);
  Time last{};
  bool in_order = true;
  for (size_t i = 0; i < COUNT; i++) {
    timers.push_back(std::make_unique<TestTimer>());
    timers[i]->then = [&, i] {
      in_order = in_order && due[i] >= last && due[i] <= simulation.clock.time;
      last = due[i];
    };
    simulation.timers.set(*timers[i], due[i] = simulation.in(any_delay()));
  }
  for (size_t i = 0; i < COUNT; i += 3)
    simulation.timers.cancel(*timers[i]);
  for (size_t i = 0; i < COUNT; i += 2)
    simulation.timers.set(*timers[i], due[i] = simulation.in(any_delay()));
  while (const std::optional<Time> next = simulation.timers.run_due())
    simulation.clock.time = *next;
  CHECK(in_order);
  size_t wrong = 0;
  for (size_t i = 0; i < COUNT; i++)
    wrong += timers[i]->calls != (i % 3 == 0 && i % 2 != 0 ? 0 : 1);
  CHECK(wrong == 0);
}

TEST_CASE("the thread wakes for a timer that is due before the one it waits for") {
  TestTimer far;
  TestTimer near;
  std::atomic<bool> called{false};
  near.then = [&] {
    called = true;
    called.notify_all();
  };
  real_timers().set(far, SystemClock().now() + 1h);
  real_timers().set(near, SystemClock().now() + 1ms);
  called.wait(false);
  real_timers().cancel(far);
  real_timers().cancel(near);
  CHECK(far.calls == 0);
}

TEST_CASE("cancelling waits for a call that is in progress") {
  TestTimer timer;
  std::atomic<bool> is_called{false};
  std::atomic<bool> may_return{false};
  std::atomic<bool> has_returned{false};
  timer.then = [&] {
    is_called = true;
    is_called.notify_all();
    may_return.wait(false);
    has_returned = true;
  };
  real_timers().set(timer, SystemClock().now());
  is_called.wait(false);
  std::thread releaser([&] {
    may_return = true;
    may_return.notify_all();
  });
  real_timers().cancel(timer);
  CHECK(has_returned.load());
  releaser.join();
}
