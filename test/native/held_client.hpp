// Clients of a filter in front of plugins whose flushes are for one client alone, and that answer
// when a test does it.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <utility>

#include "held_backend.hpp"
#include "simulated_front.hpp"
#include "support.hpp"
#include "wire/commands.hpp"

struct HeldClient {
  HeldBackend::Held held;
  HeldBackend *plugin = nullptr;
  std::unique_ptr<asyncnbd::backend::Backend> front;

  void connect(SimulatedFront &filter) {
    auto below = std::make_unique<HeldBackend>(filter.disk, held, false);
    plugin = below.get();
    front = filter.open_on(std::move(below));
    REQUIRE(front);
  }
  void write() {
    TestRequest request(asyncnbd::wire::NBD_CMD_WRITE, 0, 512, 1);
    front->submit(request, asyncnbd::backend::Caller::may_block);
    answer();
    CHECK(request.wait() == 0);
  }
  void answer() { plugin->answer(*held.take()); }
  // The next that it has been asked, which stays.
  asyncnbd::backend::Request *unanswered() {
    asyncnbd::backend::Request *request = held.take();
    held.gate.change([&] { held.requests.push_front(request); });
    return request;
  }
};
