// A clock that stands still, and threads that run nothing until they are told to: so what depends
// on time and on order happens as a test decides.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <utility>

#include "base/clock.hpp"
#include "base/threads.hpp"

struct SimulatedClock final : asyncnbd::base::Clock {
  asyncnbd::base::Time time{std::chrono::hours(1)};

  asyncnbd::base::Time now() const override { return time; }
  void advance(asyncnbd::base::Duration by) { time += by; }
};

struct SimulatedThreads final : asyncnbd::base::Threads {
  bool has_any = true;                             // else the system is out of threads
  std::deque<std::function<void()>> tasks;         // that have been given to run, and did not yet
  std::deque<std::function<void()>> started_tasks; // those that go on for ever: never run here

  bool run(std::function<void()> task) override {
    if (has_any)
      tasks.push_back(std::move(task));
    return has_any;
  }

  bool start(const char *, std::function<void()> task) override {
    if (has_any)
      started_tasks.push_back(std::move(task));
    return has_any;
  }

  // False if there is none.
  bool run_one() {
    if (tasks.empty())
      return false;
    std::function<void()> task = std::move(tasks.front());
    tasks.pop_front();
    task();
    return true;
  }
};
