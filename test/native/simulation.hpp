// A clock that stands still, threads that run nothing until they are told to, and a poller whose
// events a test makes up: so what depends on time and on order happens as the test decides.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/threads.hpp"
#include "schedule/poller.hpp"

struct SimulatedClock final : asyncnbd::base::Clock {
  asyncnbd::base::Time time{std::chrono::hours(1)};

  asyncnbd::base::Time now() const override { return time; }
  void advance(asyncnbd::base::Duration by) { time += by; }
};

struct SimulatedThreads final : asyncnbd::base::Threads {
  bool has_any = true; // else the system is out of threads
  std::mutex mutex;    // guards what follows while there are other threads, which give tasks
  std::deque<std::function<void()>> tasks;         // that have been given to run, and did not yet
  std::deque<std::function<void()>> started_tasks; // those that go on for ever: never run here

  bool run(std::function<void()> task) override {
    std::lock_guard lock(mutex);
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
    std::function<void()> task;
    {
      std::lock_guard lock(mutex);
      if (tasks.empty())
        return false;
      task = std::move(tasks.front());
      tasks.pop_front();
    }
    task();
    return true;
  }
};

// Any number will do as a descriptor.
struct SimulatedPoller final : asyncnbd::schedule::Poller {
  using PolledFds = asyncnbd::schedule::PolledFds;

  explicit SimulatedPoller(SimulatedClock &clock) : clock(clock) {}

  SimulatedClock &clock;
  bool can_open = true;
  bool can_add = true;
  bool can_suspend = true;
  bool can_resume = true;
  std::deque<Event> events;                // those to come
  std::deque<std::function<void()>> steps; // one for each time that somebody sleeps for want of one
  std::function<void()> then = [] {};      // and when none are left
  asyncnbd::base::Duration look_takes{0};  // without sleeping
  int looks = 0;
  std::vector<int> sleeps_ms; // the timeouts, -1 for ever
  std::set<int> polled;       // input descriptors
  std::set<int> suspended;
  int changes = 0; // of those

  bool open() override { return can_open; }
  bool add(const PolledFds &fds, void *) override {
    if (can_add)
      polled.insert(fds.input);
    return can_add;
  }
  bool suspend_input(const PolledFds &fds, void *) override {
    changes++;
    if (can_suspend)
      suspended.insert(fds.input);
    return can_suspend;
  }
  bool resume_input(const PolledFds &fds, void *) override {
    changes++;
    if (can_resume)
      suspended.erase(fds.input);
    return can_resume;
  }
  void remove(const PolledFds &fds) override {
    polled.erase(fds.input);
    suspended.erase(fds.input);
  }

  std::optional<Event> wait(int timeout_ms) override {
    if (events.empty() && timeout_ms == 0) {
      looks++;
      clock.advance(look_takes);
      return std::nullopt;
    }
    if (events.empty()) {
      sleeps_ms.push_back(timeout_ms);
      run_step();
    }
    if (events.empty()) {
      clock.advance(std::chrono::milliseconds(std::max(timeout_ms, 0)));
      return std::nullopt;
    }
    const Event event = events.front();
    events.pop_front();
    return event;
  }

private:
  void run_step() {
    std::function<void()> step = then;
    if (!steps.empty()) {
      step = std::move(steps.front());
      steps.pop_front();
    }
    step();
  }
};
