// The order of locks: it is noticed when it is not kept, though nothing waits for anything.
#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <string>

#include "base/mutex.hpp"
#include "ended_process.hpp"

using asyncnbd::base::Condition;
using asyncnbd::base::LockRank;
using asyncnbd::base::Mutex;

namespace {

struct Locks {
  Mutex<LockRank::stall_guard> first;
  Mutex<LockRank::buffers> middle;
  Mutex<LockRank::timers> last;
};

Outcome outcome_of(const std::function<void(Locks &)> &run) {
  return outcome_in_process([&run] {
    Locks locks;
    run(locks);
  });
}

} // namespace

TEST_CASE("locks are taken in order and released in any order") {
  const Outcome outcome = outcome_of([](Locks &locks) {
    for (int i = 0; i < 2; i++) {
      locks.first.lock();
      locks.middle.lock();
      locks.first.unlock();
      locks.last.lock();
      locks.middle.unlock();
      locks.last.unlock();
    }
    locks.last.lock();
    locks.last.unlock();
    locks.first.lock();
  });
  CHECK(outcome.signal == 0);
  CHECK(outcome.words.empty());
}

TEST_CASE("taking a lock out of order ends the process and names both locks") {
  const Outcome outcome = outcome_of([](Locks &locks) {
    locks.middle.lock();
    locks.last.lock();
    locks.first.lock();
  });
  CHECK(outcome.signal == SIGABRT);
  CHECK(outcome.words.find("stall_guard") != std::string::npos);
  CHECK(outcome.words.find("buffers timers") != std::string::npos);
}

TEST_CASE("two locks of one rank are never held together") {
  const Outcome outcome = outcome_of([](Locks &locks) {
    Mutex<LockRank::buffers> another;
    locks.middle.lock();
    another.lock();
  });
  CHECK(outcome.signal == SIGABRT);
  CHECK(outcome.words.find("buffers") != std::string::npos);
}

TEST_CASE("a tried lock keeps the order, too, and is held if it was free") {
  CHECK(outcome_of([](Locks &locks) {
          locks.middle.lock();
          (void)locks.first.try_lock();
        }).signal == SIGABRT);
  CHECK(outcome_of([](Locks &locks) {
          if (locks.middle.try_lock())
            locks.first.lock();
        }).signal == SIGABRT);
}

TEST_CASE("waiting for a condition releases its lock and takes it again afterwards") {
  const auto waits_and = [](const std::function<void(Locks &)> &then) {
    return outcome_of([&](Locks &locks) {
             Condition never;
             std::unique_lock lock(locks.middle);
             never.wait_for(lock, std::chrono::milliseconds(1), [&] { return false; });
             then(locks);
           })
        .signal;
  };
  CHECK(waits_and([](Locks &locks) { locks.last.lock(); }) == 0);
  CHECK(waits_and([](Locks &locks) { locks.first.lock(); }) == SIGABRT);
}

TEST_CASE("waiting for a condition with a wrong lock ends the process") {
  const Outcome outcome = outcome_of([](Locks &locks) {
    Condition never;
    locks.first.lock();
    std::unique_lock lock(locks.middle);
    never.wait_for(lock, std::chrono::milliseconds(1), [] { return false; });
  });
  CHECK(outcome.signal == SIGABRT);
}

TEST_CASE("waiting for a condition without its lock ends the process") {
  const Outcome outcome = outcome_of([](Locks &locks) {
    Condition never;
    std::unique_lock lock(locks.middle, std::defer_lock);
    never.wait_until(lock, std::chrono::steady_clock::now());
  });
  CHECK(outcome.signal == SIGABRT);
  CHECK(outcome.words.find("buffers") != std::string::npos);
}

TEST_CASE("a thread cannot unlock what it does not hold") {
  CHECK(outcome_of([](Locks &locks) { locks.middle.unlock(); }).signal == SIGABRT);
}
