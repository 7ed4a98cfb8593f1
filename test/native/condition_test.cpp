// Waiting for a condition: who is woken, and when a wait ends by itself.
#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "base/condition.hpp"

using asyncnbd::base::Condition;
using namespace std::chrono;

namespace {

// Numbers that threads wait for.
class Counter {
public:
  void add() {
    {
      std::lock_guard lock(mutex_);
      value_++;
    }
    changed_.notify_all();
  }
  void wait_for(int value) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return value_ >= value; });
  }

private:
  std::mutex mutex_;
  Condition changed_;
  int value_ = 0; // guarded by mutex_
};

} // namespace

TEST_CASE("threads that wait for each other take turns, and lose no wake-up") {
  constexpr int ROUNDS = 2000;
  Counter there, back;
  std::thread other([&] {
    for (int round = 1; round <= ROUNDS; round++) {
      there.wait_for(round);
      back.add();
    }
  });
  for (int round = 1; round <= ROUNDS; round++) {
    there.add();
    back.wait_for(round);
  }
  other.join();
}

TEST_CASE("notify_all wakes all, and notify_one at least one") {
  Counter everybody;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++)
    threads.emplace_back([&] { everybody.wait_for(1); });
  everybody.add();
  for (std::thread &thread : threads)
    thread.join();

  std::mutex mutex;
  Condition changed;
  bool is_set = false;
  std::thread waiter([&] {
    std::unique_lock lock(mutex);
    while (!is_set)
      changed.wait(lock);
  });
  {
    std::lock_guard lock(mutex);
    is_set = true;
  }
  changed.notify_one();
  waiter.join();
}

TEST_CASE("a timed wait ends at its time and not before") {
  std::mutex mutex;
  Condition never;
  std::unique_lock lock(mutex);
  const auto end = steady_clock::now() + milliseconds(20);
  while (never.wait_until(lock, end)) {
    // it may end without a reason
  }
  CHECK(steady_clock::now() >= end);
  CHECK(lock.owns_lock());
  CHECK_FALSE(never.wait_for(lock, milliseconds(1), [] { return false; }));
  CHECK(never.wait_for(lock, hours(1), [] { return true; }));
}

TEST_CASE("waiting until a past time is no error") {
  std::mutex mutex;
  Condition never;
  std::unique_lock lock(mutex);
  CHECK_FALSE(never.wait_until(lock, steady_clock::time_point(-seconds(5))));
  CHECK_FALSE(never.wait_until(lock, steady_clock::now() - milliseconds(1)));
}
