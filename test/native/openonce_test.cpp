// The filter openonce: what is opened when, and several clients in front of one plugin that answers
// when it is told to.
#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "filters/registry.hpp"
#include "held_backend.hpp"
#include "memory_backend.hpp"
#include "simulated_resources.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;

namespace {

// What is behind the filter, which counts how often it is opened and closed.
struct Once : SimulatedResources {
  MemoryDisk disk{1 << 20};
  HeldBackend::Held held;
  HeldBackend *plugin = nullptr; // the last one, if it holds its requests
  bool is_held = false;
  TestClient client;
  std::string error;
  std::unique_ptr<Filter> filter;
  std::function<void()> while_opening = [] {};
  std::atomic<unsigned> opened{0};
  std::atomic<unsigned> closed{0};
  bool is_refused = false;

  struct Counted final : MemoryBackend {
    Counted(MemoryDisk &disk, std::atomic<unsigned> &closed)
        : MemoryBackend(disk), closed(closed) {}
    void close() override { closed++; }
    std::atomic<unsigned> &closed;
  };

  Once() {
    filter = filters::make_filter("openonce", {}, resources, &error);
    REQUIRE_MESSAGE(filter, error);
    CHECK(filter->opens_for_all());
  }

  std::unique_ptr<Backend> open_plugin(std::string *words) {
    opened++;
    while_opening();
    if (is_refused) {
      *words = "refused";
      return nullptr;
    }
    std::unique_ptr<Backend> made;
    if (is_held) {
      auto holding = std::make_unique<HeldBackend>(disk, held);
      plugin = holding.get();
      made = std::move(holding);
    } else {
      made = std::make_unique<Counted>(disk, closed);
    }
    prepare(*made);
    return made;
  }
  // nullptr, with words: it was refused.
  std::unique_ptr<Backend> try_connect(const std::string &name, bool readonly, std::string *words) {
    const OpenBehind open = [this](bool, std::string *of_opening) {
      return open_plugin(of_opening);
    };
    return filter->open_behind(open, {client, name, readonly}, readonly, words);
  }
  std::unique_ptr<Backend> connect(const std::string &name = "", bool readonly = false) {
    std::unique_ptr<Backend> connected = try_connect(name, readonly, &error);
    REQUIRE_MESSAGE(connected, error);
    return connected;
  }
};

// One client, whose request the plugin holds.
struct OnceHeld : Once {
  std::unique_ptr<Backend> front;
  TestRequest request;

  explicit OnceHeld(uint16_t type = NBD_CMD_READ)
      : request(type, 0, type == NBD_CMD_FLUSH ? 0 : 512) {
    is_held = true;
    front = connect();
    front->submit(request, Caller::may_block);
  }
  void close() {
    front->close();
    filter->end();
  }
};

} // namespace

TEST_CASE("an export is opened for the first client, stays open, and is closed at the end") {
  Once once;
  auto first = once.connect();
  auto second = once.connect();
  CHECK(once.opened == 1);
  CHECK(first->facts().size_bytes == 1 << 20);
  first->close();
  first.reset();
  TestRequest write(NBD_CMD_WRITE, 512, 512, 7);
  CHECK(write.run(*second) == 0);
  CHECK(once.disk.bytes[512] == 7);
  second->close();
  second.reset();
  auto third = once.connect();
  third->close();
  CHECK(once.opened == 1);
  CHECK(once.closed == 0);
  third.reset();
  once.filter->end();
  CHECK(once.closed == 1);
}

TEST_CASE("other names, read-only exports and exports for TLS are opened apart") {
  Once once;
  once.connect("a");
  once.connect("b");
  once.connect("a", true);
  once.client.tls = true;
  once.connect("a");
  CHECK(once.opened == 4);
  once.connect("a");
  CHECK(once.opened == 4);
  once.filter->end();
  CHECK(once.closed == 4);
}

TEST_CASE("the number of open names is limited") {
  Once once;
  for (unsigned i = 0; i < 1024; i++)
    once.connect(std::to_string(i));
  std::string words;
  CHECK_FALSE(once.try_connect("one more", false, &words));
  CHECK(words == "filter openonce: too many exports are open already: 1024");
  once.connect("7");
  CHECK(once.opened == 1024);
  once.filter->end();
  CHECK(once.closed == 1024);
}

TEST_CASE("clients that come during opening wait, and try themselves if it fails") {
  for (const bool is_refused : {false, true}) {
    CAPTURE(is_refused);
    Once once;
    once.is_refused = is_refused;
    Gate gate;
    bool is_opening = false;
    bool may_open = false;
    once.while_opening = [&] {
      gate.change([&] { is_opening = true; });
      CHECK(gate.wait([&] { return may_open; }));
    };
    std::atomic<unsigned> connected{0};
    std::atomic<unsigned> refused{0};
    const auto come = [&] {
      std::string words;
      if (auto client = once.try_connect("", false, &words))
        connected++;
      else if (words == "refused")
        refused++;
    };
    std::thread first(come);
    REQUIRE(gate.wait([&] { return is_opening; }));
    std::thread second(come);
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); // in which it could go wrong
    CHECK(once.opened == 1);
    gate.change([&] { may_open = true; });
    first.join();
    second.join();
    CHECK(connected == (is_refused ? 0 : 2));
    CHECK(refused == (is_refused ? 2 : 0));
    const unsigned tried = once.opened;
    CHECK(tried == (is_refused ? 2 : 1));
    once.is_refused = false;
    once.connect(); // tries again
    CHECK(once.opened == tried + (is_refused ? 1 : 0));
    once.filter->end();
    CHECK(once.closed == 1);
  }
}

TEST_CASE("a late reply may come before the plugin's request is given up") {
  OnceHeld once;
  Request *below = once.held.take();
  below->completers.maker().release(*below);
  CHECK_FALSE(once.request.is_released);
  below->give_up(ESHUTDOWN);
  CHECK(once.request.wait() == ESHUTDOWN);
  CHECK(once.request.was_given_up);
  CHECK(once.request.is_released);
  once.close();
}

TEST_CASE("a client gives up its own requests, and those of others go on") {
  Once once;
  once.is_held = true;
  auto first = once.connect();
  auto second = once.connect();
  TestRequest given_up(NBD_CMD_READ, 0, 512);
  TestRequest awaited(NBD_CMD_READ, 512, 512);
  first->submit(given_up, Caller::may_block);
  second->submit(awaited, Caller::may_block);
  first->on_client_gone();
  CHECK(once.held.clients_gone == 0);
  first->give_up_unanswered();
  CHECK(given_up.wait() == ESHUTDOWN);
  CHECK(given_up.was_given_up);
  CHECK_FALSE(given_up.is_released);
  CHECK_FALSE(awaited.is_done());
  Request *late = once.held.take();
  once.plugin->answer(*once.held.take());
  CHECK(awaited.wait() == 0);
  once.plugin->answer(*late);
  CHECK(given_up.is_released);
  CHECK(given_up.ends == 1);
  first->close();
  second->close();
  once.filter->end();
}

TEST_CASE("a request given up for its client is given up for good at the end") {
  OnceHeld once(NBD_CMD_FLUSH);
  once.front->give_up_unanswered();
  CHECK(once.request.was_given_up);
  once.front->close();
  Request *late = once.held.take();
  once.held.gate.change([&] { once.held.requests.push_back(late); });
  once.filter->end();
  CHECK(once.held.requests.empty()); // the plugin has, too
  CHECK_FALSE(once.request.is_released);
  late->completers.maker().release(*late);
  CHECK(once.request.is_released);
  CHECK(once.request.ends == 1);
}

TEST_CASE("a request that the plugin gives up is given up for its client") {
  OnceHeld once;
  Request *late = once.held.take();
  late->give_up(EIO);
  CHECK(once.request.wait() == EIO);
  CHECK(once.request.was_given_up);
  once.front->give_up_unanswered(); // there is none
  late->completers.maker().release(*late);
  CHECK(once.request.is_released);
  once.close();
}

TEST_CASE("reservations, extents and error messages pass through") {
  Once once;
  auto client = once.connect();
  TestRequest write(NBD_CMD_WRITE, 4096, 512, 9);
  const Reservation place = client->reserve(write);
  REQUIRE(place.data == once.disk.bytes.data() + 4096);
  memcpy(place.data, write.data, 512);
  write.is_reserved = true;
  CHECK(write.run(*client) == 0);
  CHECK(once.disk.reserved == 0);
  TestRequest status(NBD_CMD_BLOCK_STATUS, 4096, 1024);
  CHECK(status.run(*client) == 0);
  REQUIRE(status.extras->statuses[0].extents.size() == 2);
  CHECK(status.extras->statuses[0].extents[0].flags == 0);
  CHECK(status.extras->statuses[0].extents[1].flags == 3);
  once.disk.error_of = [](Request &request) {
    request.make_extras().error_text = "worn out";
    return EIO;
  };
  TestRequest failing(NBD_CMD_READ, 0, 512);
  CHECK(failing.run(*client) == EIO);
  CHECK(failing.extras->error_text == "worn out");
  client->close();
  once.filter->end();
}
