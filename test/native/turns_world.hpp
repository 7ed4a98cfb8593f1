// Clients of a plugin that takes turns, and plugins that answer as a test wants.
#pragma once

#include <doctest/doctest.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backend/turns.hpp"
#include "simulated_resources.hpp"

namespace asyncnbd::backend {

struct Client final : Maker {
  void complete(Request &request, int error) override {
    on_answer();
    std::lock_guard lock(mutex);
    answered.push_back(&request);
    errors.push_back(error);
    changed.notify_all();
  }
  void give_up(Request &, int) override { FAIL("not this way"); }
  void release(Request &) override { FAIL("not this way"); }
  bool client_has_gone() const override { return false; }
  void wait_for(size_t count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return answered.size() >= count; });
  }

  std::function<void()> on_answer = [] {};
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Request *> answered;
  std::vector<int> errors;
};

struct Plugin final : Backend {
  explicit Plugin(std::function<void(Request &)> call, ThreadModel model = ThreadModel::parallel)
      : call(std::move(call)), model(model) {}
  bool collect(const Wanted &, Facts *facts, std::string *) override {
    facts->thread_model = model;
    return true;
  }
  void submit(Request &request, Caller) override { call(request); }
  void unreserve(Request &request) override { unreserved.push_back(&request); }
  bool finalize() override {
    last_calls += "finalize ";
    return true;
  }
  void give_up_unanswered() override {}
  void close() override { last_calls += "close "; }
  void close_unused() override { last_calls += "close_unused "; }

  std::function<void(Request &)> call;
  ThreadModel model;
  std::vector<Request *> unreserved;
  std::string last_calls;
};

// Under simulated time and threads.
struct Simulated : SimulatedResources {
  Client client;
  std::vector<Request> requests;
  std::vector<Request *> called; // by a plugin that holds them

  explicit Simulated(size_t count) : requests(count) {
    for (Request &request : requests)
      request.completers.reset(client);
  }
  std::shared_ptr<TurnQueue> queue(unsigned most) { return queue(most, most); }
  std::shared_ptr<TurnQueue> queue(unsigned most, unsigned most_workers) {
    return std::make_shared<TurnQueue>(most, most_workers, resources);
  }
  // A plugin that answers at once.
  static std::unique_ptr<Plugin> answering() {
    return std::make_unique<Plugin>([](Request &request) { request.complete(0); });
  }
  // One that answers when a test does it.
  std::unique_ptr<Plugin> holding() {
    return std::make_unique<Plugin>([this](Request &request) { called.push_back(&request); },
                                    ThreadModel::async);
  }
  bool has_answered_in_order(size_t count) const {
    for (size_t i = 0; i < client.answered.size(); i++)
      if (client.answered[i] != &requests[i])
        return false;
    return client.answered.size() == count;
  }
};

} // namespace asyncnbd::backend
