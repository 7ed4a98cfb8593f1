// Turns at a plugin: how many calls there are at once, in which order, and who makes them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <thread>

#include "turns_world.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

TEST_CASE("a caller that may block makes the call itself when nobody waits") {
  Simulated world(1);
  Turns turns(std::make_unique<Plugin>([](Request &request) { request.complete(EIO); }),
              world.queue(1));
  turns.submit(world.requests[0], Caller::may_block);
  CHECK(world.client.errors == std::vector<int>{EIO});
  CHECK(world.threads.tasks.empty());
}

TEST_CASE("one worker makes the calls of callers that must not block, in order") {
  Simulated world(5);
  Turns turns(Simulated::answering(), world.queue(4));
  for (Request &request : world.requests)
    turns.submit(request, Caller::must_not_block);
  CHECK(world.client.answered.empty());
  CHECK(world.threads.tasks.size() == 1);
  world.threads.run_one();
  CHECK(world.has_answered_in_order(5));
}

namespace {

// Makes all calls, each of which takes so long that another worker starts meanwhile. Returns how
// many were inside at once, at most.
int make_slow_calls(Simulated &world, unsigned turns_at_once) {
  int inside = 0;
  int most_inside = 0;
  Turns turns(std::make_unique<Plugin>([&](Request &request) {
                most_inside = std::max(most_inside, ++inside);
                world.clock.advance(std::chrono::milliseconds(2));
                world.timers.run_due();
                world.threads.run_one(); // another worker, while this call lasts
                inside--;
                request.complete(0);
              }),
              world.queue(turns_at_once));
  for (Request &request : world.requests)
    turns.submit(request, Caller::must_not_block);
  while (world.threads.run_one()) {
  }
  return most_inside;
}

} // namespace

TEST_CASE("more workers start when the first makes no progress, up to the limit") {
  Simulated world(12);
  CHECK(make_slow_calls(world, 3) == 3);
  CHECK(world.client.answered.size() == 12);
}

TEST_CASE("the only request that waits for a slow call to end gets a worker of its own") {
  Simulated world(2);
  CHECK(make_slow_calls(world, 3) == 2);
  CHECK(world.client.answered.size() == 2);
}

TEST_CASE("a worker that spends its time on answers gets no helpers") {
  Simulated world(100);
  size_t started = 0;
  world.client.on_answer = [&] {
    world.clock.advance(std::chrono::milliseconds(2));
    world.timers.run_due();
    started += world.threads.tasks.size();
  };
  Turns turns(Simulated::answering(), world.queue(16));
  for (Request &request : world.requests)
    turns.submit(request, Caller::must_not_block);
  world.threads.run_one();
  CHECK(world.has_answered_in_order(100));
  CHECK(started == 0);
}

TEST_CASE("a turn is free again once the answer of an asynchronous plugin has come") {
  Simulated world(3);
  Turns turns(world.holding(), world.queue(1));
  for (Request &request : world.requests)
    turns.submit(request, Caller::may_block);
  CHECK(world.called.size() == 1);
  CHECK(world.threads.tasks.empty()); // there is no turn to take
  world.called[0]->complete(0);
  CHECK(world.client.answered.size() == 1);
  CHECK(world.called.size() == 1); // not from inside the answer: the plugin may hold its locks
  world.threads.run_one();
  CHECK(world.called.size() == 2);
  world.called[1]->complete(0);
  world.threads.run_one();
  world.called[2]->complete(0);
  CHECK(world.has_answered_in_order(3));
}

TEST_CASE("a plugin that may block is never called by a thread that must not block") {
  Simulated world(1);
  int calls = 0;
  Turns turns(std::make_unique<Plugin>(
                  [&](Request &request) {
                    calls++;
                    request.complete(0);
                  },
                  ThreadModel::async),
              world.queue(UINT32_MAX));
  turns.submit(world.requests[0], Caller::must_not_block);
  CHECK(calls == 0);
  world.threads.run_one();
  CHECK(calls == 1);
}

TEST_CASE("a reserved write that never gets its turn is unreserved") {
  Simulated world(2);
  auto opened = std::make_unique<Plugin>([](Request &) {}, ThreadModel::async);
  Plugin &plugin = *opened;
  Turns turns(std::move(opened), world.queue(1));
  for (Request &request : world.requests) {
    request.type = wire::NBD_CMD_WRITE;
    request.is_reserved = true;
    turns.submit(request, Caller::may_block);
  }
  turns.give_up_unanswered();
  CHECK(plugin.unreserved == std::vector<Request *>{&world.requests[1]});
  CHECK(world.client.errors == std::vector<int>{ESHUTDOWN});
}

TEST_CASE("a request waiting for its turn is given up at once and never called") {
  Simulated world(3);
  auto queue = world.queue(1);
  Turns turns(world.holding(), queue);
  Turns other(world.holding(), queue);
  turns.submit(world.requests[0], Caller::may_block);
  turns.submit(world.requests[1], Caller::may_block);
  other.submit(world.requests[2], Caller::may_block);
  turns.give_up_unanswered();
  CHECK(world.client.answered == std::vector<Request *>{&world.requests[1]});
  CHECK(world.client.errors == std::vector<int>{ESHUTDOWN});
  world.called[0]->complete(0);
  world.threads.run_one();
  REQUIRE(world.called.size() == 2);
  CHECK(world.called[1] == &world.requests[2]);
  world.called[1]->complete(0);
}

TEST_CASE("a request waits until a thread is free again") {
  Simulated world(1);
  Turns turns(Simulated::answering(), world.queue(1));
  auto hold = world.queue(1); // has the timers' thread started
  world.threads.has_any = true;
  struct Nothing final : base::Timer {
    void on_due() override {}
  } nothing;
  world.timers.set(nothing, world.clock.now());
  world.threads.has_any = false;
  turns.submit(world.requests[0], Caller::must_not_block);
  CHECK(world.threads.tasks.empty());
  world.threads.has_any = true;
  world.clock.advance(std::chrono::milliseconds(1));
  world.timers.run_due();
  world.threads.run_one();
  CHECK(world.client.answered.size() == 1);
}

TEST_CASE("a second worker starts once there is a thread for it, although the first is in a call") {
  Simulated world(2);
  unsigned calls = 0;
  const auto let_time_pass = [&](bool has_threads) {
    world.threads.has_any = has_threads;
    world.clock.advance(std::chrono::milliseconds(2));
    world.timers.run_due();
  };
  Turns turns(std::make_unique<Plugin>([&](Request &request) {
                if (++calls == 1) {
                  let_time_pass(false);
                  let_time_pass(true);
                  world.threads.run_one();
                  CHECK(calls == 2);
                }
                request.complete(0);
              }),
              world.queue(2));
  for (Request &request : world.requests)
    turns.submit(request, Caller::must_not_block);
  while (world.threads.run_one()) {
  }
  CHECK(world.client.answered.size() == 2);
}

TEST_CASE("without a thread for a worker, who may block makes the calls that wait, in order") {
  Simulated world(4);
  Turns turns(Simulated::answering(), world.queue(1));
  REQUIRE(world.timers.ensure_started());
  world.threads.has_any = false;
  for (size_t i = 0; i < 3; i++)
    turns.submit(world.requests[i], Caller::must_not_block);
  CHECK(world.client.answered.empty());
  turns.submit(world.requests[3], Caller::may_block);
  CHECK(world.has_answered_in_order(4));
}

TEST_CASE("a request is refused if the system has no thread at all for its turn") {
  Simulated world(2);
  auto queue = world.queue(1);
  Turns turns(world.holding(), queue);
  turns.submit(world.requests[0], Caller::may_block);
  world.threads.has_any = false;
  turns.submit(world.requests[1], Caller::may_block);
  CHECK(world.client.errors == std::vector<int>{ENOMEM});
  world.called[0]->complete(0);
  CHECK(queue->try_begin());
}

TEST_CASE("a turn that ends when no thread is free is taken once one is") {
  Simulated world(2);
  Turns turns(world.holding(), world.queue(1));
  turns.submit(world.requests[0], Caller::may_block);
  turns.submit(world.requests[1], Caller::may_block);
  CHECK(world.timers.size() == 0); // there is nothing to look for while all turns are taken
  world.threads.has_any = false;
  world.called[0]->complete(0);
  REQUIRE(world.called.size() == 1);
  world.threads.has_any = true;
  world.clock.advance(std::chrono::milliseconds(1));
  world.timers.run_due();
  world.threads.run_one();
  REQUIRE(world.called.size() == 2);
  world.called[1]->complete(0);
}

TEST_CASE(
    "if calls only queue, the thread that ends a turn makes the next call, without a worker") {
  Simulated world(3);
  auto queue = world.queue(1, 0);
  Turns turns(world.holding(), queue);
  for (Request &request : world.requests)
    turns.submit(request, Caller::must_not_block);
  REQUIRE(world.called.size() == 1);
  world.called[0]->complete(0);
  REQUIRE(world.called.size() == 2);
  world.called[1]->complete(EIO);
  REQUIRE(world.called.size() == 3);
  world.called[2]->complete(0);
  CHECK(world.has_answered_in_order(3));
  CHECK(world.client.errors == std::vector<int>{0, EIO, 0});
  CHECK(world.threads.tasks.empty());
  CHECK(queue->try_begin());
}

TEST_CASE("calls that fail at once follow each other and never nest") {
  constexpr size_t REQUESTS = 100'000; // too many for the stack
  Simulated world(REQUESTS);
  Request *first = nullptr;
  int inside = 0;
  int most_inside = 0;
  Turns turns(std::make_unique<Plugin>(
                  [&](Request &request) {
                    if (first == nullptr) {
                      first = &request;
                      return;
                    }
                    most_inside = std::max(most_inside, ++inside);
                    request.complete(ESHUTDOWN);
                    inside--;
                  },
                  ThreadModel::async),
              world.queue(1, 0));
  for (Request &request : world.requests)
    turns.submit(request, Caller::must_not_block);
  CHECK(world.client.answered.empty());
  first->complete(0);
  CHECK(world.client.answered.size() == REQUESTS);
  CHECK(most_inside == 1);
}

TEST_CASE("the closing calls take turns, too") {
  const std::vector<std::pair<std::function<void(Turns &)>, std::string>> calls = {
      {[](Turns &turns) { turns.finalize(); }, "finalize "},
      {[](Turns &turns) { turns.close(); }, "close "},
      {[](Turns &turns) { turns.close_unused(); }, "close_unused "}};
  for (const auto &[call, name] : calls) {
    CAPTURE(name);
    Simulated world(0);
    auto queue = world.queue(1);
    auto below = std::make_unique<Plugin>([](Request &) {});
    Plugin &plugin = *below;
    Turns turns(std::move(below), queue, true);
    queue->lock();
    std::thread caller([&turns, &call = call] { call(turns); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); // in which it could go wrong
    const std::string early = plugin.last_calls;
    queue->unlock();
    caller.join();
    CHECK(early.empty());
    CHECK(plugin.last_calls == name);
  }
}
