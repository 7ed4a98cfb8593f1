// Who is resumed when, of those that wait in an idle poller, and when they release memory; without
// sockets, threads or time that passes.
#include <doctest/doctest.h>

#include "idle_poller_simulation.hpp"

using namespace std::chrono_literals;
using namespace asyncnbd::schedule;
using Wait = PollTable::Wait;

TEST_CASE("an event resumes a waiting connection once, which then waits again") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  SimulatedPollable &other = simulation.add_waiting();
  simulation.add_event(one);
  simulation.poller.steps.push_back([&] {
    CHECK(one.resumed == 1);
    simulation.add_event(one);
    simulation.add_event(other);
  });
  simulation.work();
  CHECK(one.resumed == 2);
  CHECK(other.resumed == 1);
}

TEST_CASE("a connection without a place in the poller cannot wait, and is not counted") {
  for (const bool can_open : {false, true}) {
    PollerSimulation simulation;
    simulation.poller.can_open = can_open;
    simulation.poller.can_add = !can_open;
    CHECK(simulation.add_busy().registration == nullptr);
    CHECK(simulation.poller.polled.empty());
    simulation.work(); // has nothing to do
    CHECK(simulation.poller.sleeps_ms.empty());
  }
}

TEST_CASE("an event for a busy connection is not lost, and comes once") {
  PollerSimulation simulation;
  SimulatedPollable &busy = simulation.add_busy();
  simulation.add_event(busy);
  simulation.add_event(busy);
  simulation.poller.steps.push_back([&] {
    CHECK(busy.resumed == 0);
    CHECK(simulation.idle.table().wait(*busy.registration) == Wait::woken);
    CHECK(simulation.idle.table().wait(*busy.registration) == Wait::begun);
  });
  simulation.work();
  CHECK(busy.resumed == 0);
}

TEST_CASE("a resumed pollable belongs to its thread until it waits again") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  CHECK(one.registration->notify()); // the caller has it
  CHECK_FALSE(one.registration->claim());
  CHECK_FALSE(one.registration->notify());
  CHECK(simulation.idle.table().wait(*one.registration) == Wait::woken);
  CHECK_FALSE(one.registration->claim());
  CHECK(simulation.idle.table().wait(*one.registration) == Wait::begun);
  CHECK(one.registration->claim());
}

TEST_CASE("a connection that missed its client's end is told again when it waits") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  one.turns.push_back([&] {
    CHECK(simulation.idle.table().wait(*one.registration) == Wait::woken);
    CHECK(simulation.idle.table().wait(*one.registration) == Wait::begun);
    return Pollable::Turn{};
  });
  simulation.add_event(one, true);
  simulation.work();
  CHECK(one.resumed == 1);
}

TEST_CASE("input that is suspended is resumed before its pollable waits again") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_busy();
  const int fd = one.registration->fds.input;
  simulation.idle.table().suspend_input(*one.registration);
  simulation.idle.table().suspend_input(*one.registration);
  CHECK(simulation.poller.suspended == std::set{fd});
  CHECK(simulation.poller.changes == 1);
  CHECK(simulation.idle.table().wait(*one.registration) == Wait::begun);
  CHECK(simulation.poller.suspended.empty());
  CHECK(simulation.poller.changes == 2);
  REQUIRE(one.registration->claim());
  CHECK(simulation.idle.table().wait(*one.registration) == Wait::begun);
  CHECK(simulation.poller.changes == 2);
}

TEST_CASE("a connection whose input cannot be resumed cannot wait; one whose input was not "
          "suspended can") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_busy();
  simulation.idle.table().suspend_input(*one.registration);
  simulation.poller.can_resume = false;
  CHECK(simulation.idle.table().wait(*one.registration) == Wait::impossible);
  CHECK_FALSE(one.registration->claim()); // it is still the caller's

  SimulatedPollable &other = simulation.add_busy();
  simulation.poller.can_suspend = false;
  simulation.idle.table().suspend_input(*other.registration);
  CHECK(simulation.idle.table().wait(*other.registration) == Wait::begun);
}

TEST_CASE("removal leaves nothing in the poller and nothing for the next owner") {
  PollerSimulation simulation;
  SimulatedPollable &first = simulation.add_busy();
  simulation.idle.table().suspend_input(*first.registration);
  Registration *place = first.registration;
  first.remove();
  CHECK(simulation.poller.polled.empty());
  SimulatedPollable &next = simulation.add_busy();
  REQUIRE(next.registration == place);
  CHECK(simulation.idle.table().wait(*place) == Wait::begun);
  CHECK(simulation.poller.changes == 1); // its input was not suspended
  REQUIRE(place->claim());
  simulation.idle.table().suspend_input(*place);
  CHECK(simulation.poller.suspended == std::set{place->fds.input});
}

TEST_CASE("an event that comes too late finds its registration unused, or its next owner") {
  PollerSimulation simulation;
  SimulatedPollable &first = simulation.add_waiting();
  SimulatedPollable &second = simulation.add_waiting();
  Registration &place = *first.registration;
  const auto late = [&] { simulation.poller.events.push_back({&place, true}); };
  first.remove();
  late();
  simulation.poller.steps.push_back([&] {
    SimulatedPollable &next = simulation.add_busy();
    REQUIRE(next.registration == &place);
    CHECK(simulation.idle.table().wait(place) == Wait::begun); // nothing is left of what was before
    CHECK(next.resumed == 0);
    late();
  });
  simulation.poller.steps.push_back([&] { CHECK(simulation.pollables.back().resumed == 1); });
  simulation.work();
  CHECK(first.resumed == 0);
  CHECK(second.resumed == 0);
}

TEST_CASE("the poller opens with eight candidates and closes with less than four") {
  PollerSimulation simulation;
  for (int round = 0; round < 2; round++) {
    for (unsigned count = round == 0 ? 1 : 4; count <= 10; count++) {
      CHECK_FALSE((simulation.idle.is_open() && count <= 8));
      simulation.idle.candidate_begins(0);
      CHECK(simulation.idle.is_open() == (count >= 8));
    }
    for (unsigned left = 10; left-- > 3;) {
      CHECK(simulation.idle.is_open());
      CHECK(simulation.idle.candidate_ends() == left);
    }
    CHECK_FALSE(simulation.idle.is_open());
  }
}

TEST_CASE("after waiting a second a connection releases memory, once until its next turn") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  SimulatedPollable &busy = simulation.add_busy();
  simulation.clock.advance(400ms);
  SimulatedPollable &later = simulation.add_waiting();
  simulation.poller.steps = {
      [] {},
      [&] {
        CHECK(one.released == 1); // after 1.4 s
        CHECK(later.released == 1);
        simulation.clock.advance(1h);
      },
      [&] {
        CHECK(one.released == 1);
        simulation.add_event(one);
      },
      [] {},
      [&] { CHECK(one.released == 2); },
  };
  simulation.work();
  CHECK(busy.released == 0);
  CHECK(later.released == 1);
}

TEST_CASE("a connection with more to release is asked each second, without a turn") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  one.has_more_later = true;
  for (int seconds = 0; seconds <= 3; seconds++)
    simulation.poller.steps.push_back([&, seconds] {
      CHECK(one.released == seconds);
      one.has_more_later = seconds < 3;
    });
  simulation.poller.steps.push_back([&] { simulation.clock.advance(1h); });
  simulation.poller.steps.push_back([] {});
  simulation.work();
  CHECK(one.released == 4);
  CHECK(simulation.poller.sleeps_ms == std::vector<int>{1000, 1000, 1000, 1000, -1, -1, -1});
}

TEST_CASE("a connection that waited less than a second keeps its memory") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  simulation.clock.advance(1ms);
  SimulatedPollable &later = simulation.add_waiting();
  simulation.clock.advance(998ms);
  SimulatedPollable &active = simulation.add_waiting();
  simulation.add_event(active); // a turn, after which the worker looks for idle ones
  simulation.poller.steps.push_back([&] {
    CHECK(one.released == 0);
    simulation.clock.advance(1ms);
    simulation.add_event(active);
  });
  simulation.poller.steps.push_back([&] {
    CHECK(one.released == 0); // nobody has looked: the last time was less than a second ago
    simulation.clock.advance(999ms);
    simulation.add_event(active);
  });
  simulation.poller.steps.push_back([&] {
    CHECK(one.released == 1);
    CHECK(later.released == 1);
    CHECK(active.released == 0);
  });
  simulation.work();
}

TEST_CASE("a worker sleeps until it may release memory, and for ever when there is none") {
  PollerSimulation simulation;
  simulation.add_waiting();
  simulation.poller.steps = {[] {}, [] {}};
  simulation.work();
  CHECK(simulation.poller.sleeps_ms == std::vector{1000, -1, -1});
}

TEST_CASE("a worker that has left some for later does not sleep for ever") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  simulation.clock.advance(1s);
  SimulatedPollable &later = simulation.add_waiting();
  simulation.add_event(later); // a turn, after which the worker looks for idle ones
  simulation.poller.steps.push_back([&] { CHECK(one.released == 1); });
  simulation.work();
  CHECK(later.released == 1);
  CHECK(simulation.poller.sleeps_ms == std::vector{1000, -1});
}

TEST_CASE("at most 64 connections release memory in one go, and others have turns between") {
  PollerSimulation simulation;
  for (int i = 0; i < 150; i++)
    simulation.add_waiting();
  SimulatedPollable &active = simulation.add_waiting();
  const auto released = [&] {
    int count = 0;
    for (const SimulatedPollable &pollable : simulation.pollables)
      count += pollable.released;
    return count;
  };
  std::vector<int> counts;
  simulation.clock.advance(1s);
  for (int i = 0; i < 4; i++)
    simulation.poller.steps.push_back([&] {
      counts.push_back(released());
      simulation.clock.advance(1ms);
      simulation.add_event(active);
    });
  simulation.work();
  CHECK(counts == std::vector{0, 64, 128, 150});
  CHECK(active.resumed == 4);
}

TEST_CASE("a connection notified while it releases memory is resumed") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  SimulatedPollable &other = simulation.add_waiting();
  one.on_release = [&] { CHECK_FALSE(one.registration->notify()); };
  simulation.poller.steps = {[] {},
                             [&] {
                               CHECK(one.released == 1);
                               CHECK(one.resumed == 1);
                               CHECK(other.released == 0); // the worker has been busy with the one
                             }};
  simulation.work();
  CHECK(other.resumed == 0);
}

TEST_CASE("a connection that has released memory is told of input it missed") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  simulation.poller.steps = {[] {}};
  simulation.work();
  CHECK(one.released == 1);
  CHECK(simulation.poller.changes == 1); // its input was resumed, which tells of all that is there
}
