// Who leads while calls last: what the slow call detector reports at which of its ticks, and who
// may take a leader's token when.
#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "schedule/leader_token.hpp"
#include "schedule/slow_call_detector.hpp"
#include "simulation.hpp"

using namespace asyncnbd::schedule;

namespace {

struct Simulation {
  SimulatedThreads threads;
  SlowCallDetector detector{threads};
};

// As a connection: has a token, and is told of its slow calls.
struct Listener final : SlowCallListener {
  explicit Listener(SlowCallDetector &detector) : detector(detector), token(detector) {
    detector.add(this, token.word());
  }
  ~Listener() override { detector.remove(this); }

  bool on_slow_call(uint64_t call) override {
    reported.push_back(call);
    return is_urgent;
  }

  SlowCallDetector &detector;
  LeaderToken token;
  std::vector<uint64_t> reported;
  bool is_urgent = true;
};

using Pause = SlowCallDetector::Pause;

} // namespace

TEST_CASE("a call is reported at its second tick and at each tick after") {
  Simulation simulation;
  Listener listener(simulation.detector);
  const uint64_t call = listener.token.begin_call();
  simulation.detector.tick();
  CHECK(listener.reported.empty());
  simulation.detector.tick();
  CHECK(listener.reported == std::vector{call});
  simulation.detector.tick();
  CHECK(listener.reported == std::vector{call, call});
  CHECK(listener.token.end_call(call));
  simulation.detector.tick();
  CHECK(listener.reported == std::vector{call, call});
}

TEST_CASE("a call that ends before the next tick is not reported, nor is the one after it") {
  Simulation simulation;
  Listener listener(simulation.detector);
  for (int i = 0; i < 100; i++) {
    const uint64_t call = listener.token.begin_call();
    simulation.detector.tick();
    CHECK(listener.token.end_call(call));
  }
  CHECK(listener.reported.empty());
}

TEST_CASE("a listener hears only of its own calls, and of none once removed") {
  Simulation simulation;
  Listener quick(simulation.detector);
  auto leaving = std::make_unique<Listener>(simulation.detector);
  Listener slow(simulation.detector);
  leaving->token.begin_call();
  const uint64_t call = slow.token.begin_call();
  simulation.detector.tick();
  simulation.detector.tick();
  CHECK(leaving->reported.size() == 1);
  leaving.reset();
  simulation.detector.tick();
  CHECK(quick.reported.empty());
  CHECK(slow.reported == std::vector{call, call});
}

TEST_CASE("one thread can take the token during a call, and the caller finds out") {
  Simulation simulation;
  LeaderToken token(simulation.detector);
  CHECK(token.current_call() == 0);
  const uint64_t call = token.begin_call();
  CHECK(token.current_call() == call);
  CHECK(token.take(call));
  CHECK_FALSE(token.take(call));
  CHECK(token.current_call() == 0);
  CHECK_FALSE(token.end_call(call));
}

TEST_CASE("a token cannot be taken between calls or for a finished call") {
  Simulation simulation;
  LeaderToken token(simulation.detector);
  const uint64_t first = token.begin_call();
  CHECK(token.end_call(first));
  CHECK_FALSE(token.take(first));
  const uint64_t second = token.begin_call();
  CHECK(second != first);
  CHECK_FALSE(token.take(first));
  CHECK(token.end_call(second));
}

TEST_CASE("the end of a call that has lost the token does not end the call of the next leader") {
  Simulation simulation;
  LeaderToken token(simulation.detector);
  const uint64_t first = token.begin_call();
  REQUIRE(token.take(first));
  const uint64_t second = token.begin_call(); // of the new leader
  CHECK_FALSE(token.end_call(first));
  CHECK(token.current_call() == second);
  // The first thread leads again, as the second is in a slow call in turn.
  CHECK(token.take(second));
  const uint64_t third = token.begin_call();
  CHECK_FALSE(token.end_call(second));
  CHECK(token.end_call(third));
}

TEST_CASE("after its token was taken a call is not reported, but the new leader's calls are") {
  Simulation simulation;
  Listener listener(simulation.detector);
  const uint64_t first = listener.token.begin_call();
  simulation.detector.tick();
  simulation.detector.tick();
  REQUIRE(listener.token.take(first));
  const uint64_t second = listener.token.begin_call();
  simulation.detector.tick();
  CHECK(listener.reported == std::vector{first});
  simulation.detector.tick();
  CHECK(listener.reported == std::vector{first, second});
}

TEST_CASE("the calls of a word's next owner have other numbers") {
  Simulation simulation;
  const CallWord *word = nullptr;
  std::set<uint64_t> numbers;
  for (int i = 0; i < 100; i++) {
    LeaderToken token(simulation.detector);
    CHECK((word == nullptr || word == &token.word())); // it is the same word
    word = &token.word();
    const uint64_t call = token.begin_call();
    CHECK(numbers.insert(call).second);
    CHECK((i % 2 == 0 ? token.end_call(call) : token.take(call)));
  }
}

TEST_CASE("each of many tokens has a word in its own cache line") {
  Simulation simulation;
  std::vector<std::unique_ptr<LeaderToken>> tokens;
  std::set<uintptr_t> lines;
  for (int i = 0; i < 1000; i++) {
    tokens.push_back(std::make_unique<LeaderToken>(simulation.detector));
    lines.insert(reinterpret_cast<uintptr_t>(&tokens.back()->word()) / 64);
  }
  CHECK(lines.size() == tokens.size());
}

TEST_CASE("the detector sleeps after some ticks without a call, until one begins") {
  Simulation simulation;
  Listener listener(simulation.detector);
  for (int round = 0; round < 3; round++) {
    for (int i = 1; i < SlowCallDetector::QUIET_TICKS; i++)
      CHECK(simulation.detector.tick() == Pause::slow);
    CHECK(simulation.detector.tick() == Pause::until_notice);
    CHECK(simulation.detector.tick() == Pause::until_notice);
    const uint64_t call = listener.token.begin_call();
    CHECK(simulation.detector.tick() == Pause::slow);
    listener.token.end_call(call);
  }
}

TEST_CASE("the detector ticks fast from a slow call on, for some ticks after the last") {
  Simulation simulation;
  Listener listener(simulation.detector);
  const uint64_t slow = listener.token.begin_call();
  CHECK(simulation.detector.tick() == Pause::slow);
  for (int i = 0; i < 2 * SlowCallDetector::FAST_TICKS; i++)
    CHECK(simulation.detector.tick() == Pause::fast);
  listener.token.end_call(slow);
  // Each of these sees a call that it did not see before.
  auto tick_in_a_quick_call = [&] {
    const uint64_t call = listener.token.begin_call();
    const Pause pause = simulation.detector.tick();
    listener.token.end_call(call);
    return pause;
  };
  for (int i = 1; i < SlowCallDetector::FAST_TICKS; i++)
    CHECK(tick_in_a_quick_call() == Pause::fast);
  CHECK(tick_in_a_quick_call() == Pause::slow);
}

TEST_CASE("ticks stay long if slow calls may last long") {
  Simulation simulation;
  Listener listener(simulation.detector);
  listener.is_urgent = false;
  const uint64_t slow = listener.token.begin_call();
  for (int i = 0; i < 10; i++)
    CHECK(simulation.detector.tick() == Pause::slow);
  CHECK(listener.reported.size() == 9);
  listener.token.end_call(slow);
}

TEST_CASE("the detector sleeps where there are no calls, although one was slow not long ago") {
  Simulation simulation;
  Listener listener(simulation.detector);
  const uint64_t slow = listener.token.begin_call();
  simulation.detector.tick();
  simulation.detector.tick();
  listener.token.end_call(slow);
  for (int i = 1; i < SlowCallDetector::QUIET_TICKS; i++)
    CHECK(simulation.detector.tick() == Pause::fast);
  CHECK(simulation.detector.tick() == Pause::until_notice);
}

TEST_CASE("the detector has one thread, and asks again if it could get none") {
  Simulation simulation;
  simulation.threads.has_any = false;
  Listener first(simulation.detector);
  CHECK(simulation.threads.started_tasks.empty());
  const uint64_t call = first.token.begin_call(); // is made all the same
  CHECK(first.token.end_call(call));
  simulation.threads.has_any = true;
  Listener second(simulation.detector);
  CHECK(simulation.threads.started_tasks.size() == 1);
  Listener third(simulation.detector);
  CHECK(simulation.threads.started_tasks.size() == 1);
  // The one that came too early is looked at as well.
  first.token.begin_call();
  simulation.detector.tick();
  simulation.detector.tick();
  CHECK(first.reported.size() == 1);
}
