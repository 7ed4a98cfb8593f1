// How many threads serve the pollables of an idle poller, and how one takes the place of another
// that is busy for long.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>

#include "idle_poller_simulation.hpp"

using namespace std::chrono_literals;
using namespace asyncnbd::schedule;

namespace {

// Has the part of the worker been given to another thread, which has yet to run?
bool has_new_worker(const PollerSimulation &simulation) {
  return simulation.threads.tasks.size() == 1;
}

// Waits until the system says that it sleeps.
bool wait_until_blocked(pid_t thread) {
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (std::chrono::steady_clock::now() < deadline) {
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string line;
    if (std::getline(file, line) && line.compare(line.rfind(')'), 3, ") S") == 0)
      return true;
  }
  return false;
}

} // namespace

TEST_CASE("there are no more workers than cores, and none without pollables") {
  for (const unsigned cores : {0u, 1u, 3u}) {
    PollerSimulation simulation(cores);
    simulation.work();
    CHECK(simulation.poller.sleeps_ms.empty());
    SimulatedPollable &one = simulation.add_waiting();
    unsigned workers = 0;
    // Another thread offers itself while the workers there are sleep.
    simulation.poller.then = [&] {
      workers++;
      simulation.work();
      simulation.remove_all();
    };
    simulation.work();
    CHECK(workers == std::max(1u, cores));
    CHECK(one.registration == nullptr);
    // All of them have gone, so there is room for as many again.
    simulation.poller.then = [&] { simulation.remove_all(); };
    simulation.add_waiting();
    const size_t sleeps = simulation.poller.sleeps_ms.size();
    simulation.work();
    CHECK(simulation.poller.sleeps_ms.size() == sleeps + 1);
  }
}

TEST_CASE("a worker about to wait is replaced, and leaves when its turn ends") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  one.next_turn([&] {
    CHECK(IdlePoller::delays_others());
    CHECK_FALSE(IdlePoller::is_replaced());
    IdlePoller::before_delay();
    CHECK_FALSE(IdlePoller::delays_others());
    CHECK(IdlePoller::is_replaced());
    IdlePoller::before_delay(); // once is enough
    CHECK(has_new_worker(simulation));
  });
  simulation.add_event(one);
  simulation.work();
  CHECK(one.resumed == 1);
  CHECK(one.registration != nullptr); // there was no sleep, and so no end of all
  CHECK_FALSE(IdlePoller::is_replaced());
  simulation.work(); // the part is taken: this thread is not needed
  CHECK(simulation.poller.sleeps_ms.empty());

  simulation.add_event(one);
  CHECK(simulation.threads.run_one());
  CHECK(one.resumed == 2);
  CHECK_FALSE(has_new_worker(simulation));
}

TEST_CASE("threads that are no workers or have no turn delay nobody") {
  CHECK_FALSE(IdlePoller::delays_others());
  CHECK_FALSE(IdlePoller::is_replaced());
  IdlePoller::before_delay();
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  one.on_release = [&] {
    CHECK_FALSE(IdlePoller::delays_others());
    IdlePoller::before_delay();
    CHECK_FALSE(has_new_worker(simulation));
  };
  simulation.poller.steps = {[] {}};
  simulation.work();
  CHECK(one.released == 1);
}

TEST_CASE("a turn that goes on and on is taken from its worker after 20 ms") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  one.next_turn([&] {
    simulation.runtime.slow_calls.tick(); // sees it for the first time
    simulation.clock.advance(19ms);
    simulation.runtime.slow_calls.tick(); // the thread runs: it is no use to replace it
    CHECK(IdlePoller::delays_others());
    simulation.clock.advance(1ms);
    simulation.runtime.slow_calls.tick();
    CHECK(IdlePoller::is_replaced());
    simulation.runtime.slow_calls.tick();
    CHECK(has_new_worker(simulation));
  });
  simulation.add_event(one);
  simulation.work();
  CHECK(one.resumed == 1);
  CHECK(simulation.threads.run_one());
}

TEST_CASE("many short turns do not count as a long one") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  for (int i = 0; i < 100; i++) {
    one.next_turn([&] {
      simulation.runtime.slow_calls.tick();
      simulation.clock.advance(19ms);
      simulation.runtime.slow_calls.tick();
    });
    simulation.add_event(one);
  }
  simulation.work();
  CHECK(one.resumed == 100);
  CHECK(simulation.threads.tasks.empty());
}

TEST_CASE("a turn that waits is taken from its worker after 2 ms") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  std::atomic<pid_t> thread{0};
  std::atomic<bool> may_go_on{false};
  one.next_turn([&] {
    thread = gettid();
    thread.notify_all();
    may_go_on.wait(false);
    CHECK(IdlePoller::is_replaced());
  });
  simulation.add_event(one);
  std::thread worker([&] { simulation.work(); });
  thread.wait(0);
  CHECK(wait_until_blocked(thread));
  simulation.runtime.slow_calls.tick();
  simulation.clock.advance(1ms);
  simulation.runtime.slow_calls.tick();
  CHECK(simulation.threads.tasks.empty());
  simulation.clock.advance(1ms);
  simulation.runtime.slow_calls.tick();
  CHECK(has_new_worker(simulation));
  may_go_on = true;
  may_go_on.notify_all();
  worker.join();
}

TEST_CASE("a pollable can replace its worker, but not after the turn") {
  PollerSimulation simulation(2);
  SimulatedPollable &one = simulation.add_waiting();
  SimulatedPollable &other = simulation.add_waiting();
  one.next_turn([&] {
    IdlePoller::replace_worker(*other.registration);
    CHECK(IdlePoller::delays_others());
    IdlePoller::replace_worker(*one.registration);
    CHECK(IdlePoller::is_replaced());
  });
  other.next_turn([&] {
    IdlePoller::replace_worker(*one.registration);
    CHECK(IdlePoller::delays_others());
  });
  simulation.add_event(other);
  simulation.add_event(one);
  simulation.work();
  CHECK(one.resumed == 1);
  CHECK(other.resumed == 1);
  CHECK(has_new_worker(simulation));
  simulation.threads.run_one();
}

TEST_CASE("if no thread can be started, each tick tries again") {
  PollerSimulation simulation;
  SimulatedPollable &one = simulation.add_waiting();
  one.next_turn([&] { IdlePoller::before_delay(); });
  simulation.add_event(one);
  simulation.threads.has_any = false;
  simulation.work();
  CHECK(one.resumed == 1);
  for (int i = 0; i < 10; i++)
    simulation.runtime.slow_calls.tick();
  CHECK(simulation.threads.tasks.empty());
  simulation.threads.has_any = true;
  simulation.runtime.slow_calls.tick();
  CHECK(has_new_worker(simulation));
  for (int i = 0; i < 10; i++)
    simulation.runtime.slow_calls.tick();
  CHECK(has_new_worker(simulation));
  simulation.add_event(one);
  simulation.threads.run_one();
  CHECK(one.resumed == 2);
}

TEST_CASE("an idle thread takes the place of a missing worker") {
  PollerSimulation simulation(2);
  SimulatedPollable &one = simulation.add_waiting();
  simulation.threads.has_any = false;
  for (int i = 0; i < 2; i++) {
    one.next_turn([&] { IdlePoller::before_delay(); });
    simulation.add_event(one);
  }
  simulation.work(); // and, after its first turn, the other of two
  CHECK(one.resumed == 2);
  CHECK(simulation.poller.sleeps_ms.empty());
  simulation.threads.has_any = true;

  int workers = 0;
  simulation.poller.then = [&] {
    workers++;
    simulation.work();
    simulation.remove_all();
  };
  simulation.work();
  CHECK(workers == 2);
  for (int i = 0; i < 10; i++)
    simulation.runtime.slow_calls.tick();
  CHECK(simulation.threads.tasks.empty()); // none is missing any more
}

TEST_CASE("a worker spins for the server's time, then sleeps") {
  PollerSimulation simulation(2);
  simulation.poller.look_takes = 10us;
  simulation.idle.candidate_begins(50);
  simulation.add_waiting();
  simulation.work();
  CHECK(simulation.poller.looks == 1 + 5);
}

TEST_CASE("a worker does not get far ahead of its receivers unless it is replaced") {
  struct Reader final : Receiver {
    mutable int looks = 0;
    size_t unread_bytes() const override {
      looks++;
      return 0;
    }
  };
  PollerSimulation simulation;
  auto reader = std::make_shared<Reader>();
  SimulatedPollable &one = simulation.add_waiting();
  const auto sends = [&] {
    one.wait();
    return Pollable::Turn{reader, 96 << 10};
  };
  for (int i = 0; i < 5; i++) {
    one.turns.push_back(sends);
    simulation.add_event(one);
  }
  simulation.poller.steps.push_back([&] {
    CHECK(reader->looks == 1);
    one.turns.push_back([&] {
      IdlePoller::before_delay();
      return sends();
    });
    simulation.add_event(one);
  });
  simulation.work();
  CHECK(reader->looks == 1);
  simulation.threads.run_one();
}
