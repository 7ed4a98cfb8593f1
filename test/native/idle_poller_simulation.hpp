// An idle poller without sockets or threads: its workers run on the test's thread, and sleep only
// to have the next of the test's steps happen.
#pragma once

#include <deque>
#include <functional>

#include "schedule/idle_poller.hpp"
#include "schedule/pollable.hpp"
#include "schedule/runtime.hpp"
#include "simulation.hpp"

struct SimulatedPollable final : asyncnbd::schedule::Pollable {
  using IdlePoller = asyncnbd::schedule::IdlePoller;
  using Turns = std::deque<std::function<Turn()>>;

  IdlePoller *poller = nullptr;
  asyncnbd::schedule::Registration *registration = nullptr;
  Turns turns; // what the next ones do; those after them just wait again
  std::function<void()> on_release = [] {};
  int resumed = 0;
  int released = 0;
  bool has_more_later = false; // to release

  Turn resume() override {
    resumed++;
    if (turns.empty()) {
      wait();
      return {};
    }
    const std::function<Turn()> turn = std::move(turns.front());
    turns.pop_front();
    return turn();
  }
  bool release_idle_memory() override {
    released++;
    on_release();
    return !has_more_later;
  }

  // As a connection does that has been woken: it looks again, in vain.
  void wait() {
    while (poller->table().wait(*registration) == asyncnbd::schedule::PollTable::Wait::woken)
      ;
  }
  // A turn that does this, and waits again.
  void next_turn(std::function<void()> does) {
    turns.push_back([this, does = std::move(does)] {
      does();
      wait();
      return Turn{};
    });
  }
  // By this thread, whether it has it already or takes it now.
  void remove() {
    (void)registration->claim();
    poller->table().remove(*registration);
    registration = nullptr;
  }
};

struct PollerSimulation {
  using IdlePoller = asyncnbd::schedule::IdlePoller;

  explicit PollerSimulation(unsigned cores = 1)
      : runtime(clock, threads, poller, cores), idle(runtime.idle_poller) {
    poller.then = [this] { remove_all(); };
  }

  SimulatedClock clock;
  SimulatedThreads threads;
  SimulatedPoller poller{clock};
  asyncnbd::schedule::Runtime runtime;
  IdlePoller &idle;
  std::deque<SimulatedPollable> pollables;
  int next_fd = 100;

  // One that some thread is still busy with.
  SimulatedPollable &add_busy() {
    SimulatedPollable &pollable = pollables.emplace_back();
    pollable.poller = &idle;
    pollable.registration = idle.table().add(pollable, {next_fd, next_fd + 1});
    next_fd += 2;
    return pollable;
  }
  SimulatedPollable &add_waiting() {
    SimulatedPollable &pollable = add_busy();
    pollable.wait();
    return pollable;
  }
  void add_event(const SimulatedPollable &pollable, bool has_ended = false) {
    poller.events.push_back({pollable.registration, has_ended});
  }
  void remove_all() {
    for (SimulatedPollable &pollable : pollables)
      if (pollable.registration != nullptr)
        pollable.remove();
  }

  // The test's thread is a worker until it has lost its part, or the steps are over and with them
  // the pollables.
  void work() { idle.offer_thread(); }
};
