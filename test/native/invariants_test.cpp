// What ends the process because going on would corrupt data: each with the line that says what did
// not hold.
#include <doctest/doctest.h>

#include <csignal>
#include <functional>
#include <string>

#include "backend/operation_pool.hpp"
#include "backend/slot_pool.hpp"
#include "backend/turn_queue.hpp"
#include "base/memory_budget.hpp"
#include "ended_process.hpp"
#include "schedule/leader_token.hpp"
#include "schedule/registrations.hpp"
#include "schedule/slow_call_detector.hpp"
#include "simulation.hpp"
#include "system_resources.hpp"

using namespace asyncnbd;

namespace {

void check_ends(const char *what, const std::function<void()> &run) {
  const Outcome outcome = outcome_in_process(run);
  CHECK(outcome.signal == SIGABRT);
  CHECK(outcome.words.find(what) != std::string::npos);
}

} // namespace

TEST_CASE("memory is given back once") {
  const auto give_back = [](int times) {
    base::MemoryBudget budget(100);
    budget.add(60);
    for (int i = 0; i < times; i++)
      budget.give_back(60);
  };
  CHECK(outcome_in_process([&] { give_back(1); }).signal == 0);
  check_ends("memory that is given back was taken", [&] { give_back(2); });
  check_ends("a reserve that is given back was taken",
             [] { base::MemoryBudget(100).give_back_reserve(); });
}

TEST_CASE("a slot is put once") {
  const auto put = [](int times) {
    backend::SlotPool pool(nullptr);
    backend::SlotPool::Slot *slot = pool.take(4096, pool.add_owner()).slot;
    for (int i = 0; i < times; i++)
      pool.put(*slot);
  };
  CHECK(outcome_in_process([&] { put(1); }).signal == 0);
  check_ends("a slot that is put was taken", [&] { put(2); });
}

TEST_CASE("an operation is put once, whatever has been put since") {
  const auto put = [](int times) {
    backend::OperationSlabs slabs;
    backend::OperationPool pool(slabs);
    backend::Operation *first = pool.get();
    backend::Operation *second = pool.get();
    pool.put(first);
    pool.put(second);
    if (times > 1)
      pool.put(first);
  };
  CHECK(outcome_in_process([&] { put(1); }).signal == 0);
  check_ends("an operation that is put was in use", [&] { put(2); });
}

TEST_CASE("a turn ends once") {
  const auto end = [](int times) {
    backend::TurnQueue turns(1, 1, system_resources().of_backends);
    (void)turns.try_begin();
    for (int i = 0; i < times; i++)
      turns.end();
  };
  CHECK(outcome_in_process([&] { end(1); }).signal == 0);
  check_ends("a turn that ends has begun", [&] { end(2); });
}

TEST_CASE("a leader makes one call at a time") {
  const auto begin = [](bool ends_first) {
    SimulatedThreads threads;
    schedule::SlowCallDetector detector(threads);
    schedule::LeaderToken token(detector);
    const uint64_t call = token.begin_call();
    if (ends_first)
      (void)token.end_call(call);
    token.begin_call();
    _exit(0); // neither of them is destroyed inside a call
  };
  CHECK(outcome_in_process([&] { begin(true); }).signal == 0);
  check_ends("a leader's call begins when its last one has ended", [&] { begin(false); });
}

TEST_CASE("only who has a pollable waits with it") {
  check_ends("who begins to wait has the pollable", [] {
    schedule::Registration registration;
    registration.state = schedule::Registration::State::waiting;
    registration.try_wait();
  });
  check_ends("a free registration is unused", [] {
    schedule::Registrations registrations;
    schedule::Registration &registration = registrations.take();
    registrations.put(registration);
    registration.state = schedule::Registration::State::busy;
    registrations.take();
  });
}
