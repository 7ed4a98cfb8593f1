// What only stacks of layers can get wrong, one trap each.
#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "backend/layer.hpp"
#include "cplugin/filter_child.hpp"
#include "filters/registry.hpp"
#include "held_backend.hpp"
#include "system_resources.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

// Filters in front of a backend, the first one at the top.
struct Stack {
  struct Named {
    const char *name;
    filters::FilterOptions options;
  };
  TestClient client;
  std::deque<std::unique_ptr<Filter>> filters;
  std::deque<std::unique_ptr<DiskState>> states;
  std::unique_ptr<Backend> top;

  Stack(std::unique_ptr<Backend> below, std::vector<Named> wanted) : top(std::move(below)) {
    std::string error;
    prepare(*top);
    for (auto filter = wanted.rbegin(); filter != wanted.rend(); ++filter) {
      filters.push_back(filters::make_filter(filter->name, filter->options,
                                             system_resources().of_backends, &error));
      REQUIRE(filters.back());
      states.push_back(filters.back()->new_disk(top->facts(), &error));
      std::unique_ptr<Backend> behind = std::move(top);
      top = filters.back()->open(&behind, client.opening(), states.back().get(), &error);
      REQUIRE(top);
      prepare(*top);
    }
  }
};

constexpr uint64_t SIZE = 1 << 20;

} // namespace

TEST_CASE("a read sent before a write of the same bytes gets the old bytes") {
  MemoryDisk disk{SIZE};
  disk.bytes.assign(SIZE, 1);
  HeldBackend::Held held;
  HeldBackend answerer(disk, held);
  Stack stack(std::make_unique<HeldBackend>(disk, held), {{"cow", {}}});
  TestRequest early(wire::NBD_CMD_READ, 0, 128 << 10);
  stack.top->submit(early, Caller::may_block);
  Request *below = held.take();
  TestRequest write(wire::NBD_CMD_WRITE, 0, 128 << 10, 2);
  CHECK(write.run(*stack.top) == 0);
  TestRequest late(wire::NBD_CMD_READ, 0, 128 << 10);
  CHECK(late.run(*stack.top) == 0);
  answerer.answer(*below);
  CHECK(early.wait() == 0);
  CHECK(early.content == std::vector<uint8_t>(128 << 10, 1));
  CHECK(late.content == std::vector<uint8_t>(128 << 10, 2));
}

TEST_CASE("no large write is received in place if a layer may refuse or delay it") {
  const std::vector<Stack::Named> layers = {
      {"readonly", {}}, {"delay", {{"writeMs", 1000.0}}}, {"cow", {}}};
  for (const Stack::Named &layer : layers)
    for (const bool is_at_top : {false, true}) {
      MemoryDisk disk{SIZE};
      std::vector<Stack::Named> wanted = {layer, {"delay", {}}}; // which passes all on
      if (!is_at_top)
        std::swap(wanted[0], wanted[1]);
      Stack stack(std::make_unique<MemoryBackend>(disk), wanted);
      TestRequest large(wire::NBD_CMD_WRITE, 0, 512 << 10, 9);
      CHECK(stack.top->reserve(large).data == nullptr);
      CHECK(disk.reserved == 0);
    }
  // The one that does not is passed through.
  MemoryDisk disk{SIZE};
  Stack stack(std::make_unique<MemoryBackend>(disk), {{"delay", {}}, {"delay", {}}});
  TestRequest large(wire::NBD_CMD_WRITE, 0, 512 << 10, 9);
  CHECK(stack.top->reserve(large).data == disk.bytes.data());
  stack.top->unreserve(large);
  CHECK(disk.reserved == 0);
}

TEST_CASE("a request given up below three layers ends once and is released when the reply comes") {
  for (const uint16_t type : {wire::NBD_CMD_READ, wire::NBD_CMD_WRITE, wire::NBD_CMD_CACHE}) {
    MemoryDisk disk{SIZE};
    HeldBackend::Held held;
    Stack stack(std::make_unique<HeldBackend>(disk, held),
                {{"delay", {}}, {"cow", {{"onCache", true}, {"onRead", true}}}, {"delay", {}}});
    TestRequest request(type, 100, 5000, 9);
    stack.top->submit(request, Caller::may_block);
    Request *below = held.take();
    held.gate.change([&] { held.requests.push_back(below); });
    stack.top->on_client_gone();
    stack.top->give_up_unanswered();
    CHECK(request.wait() == ESHUTDOWN);
    CHECK(request.was_given_up);
    CHECK_FALSE(request.is_released);
    memset(below->data, 0xee, below->length_bytes); // the late reply
    below->completers.maker().release(*below);
    CHECK(request.is_released);
    CHECK(request.ends == 1);
  }
}

TEST_CASE("a reply under a plugin's lock below cow submits nothing") {
  MemoryDisk disk{SIZE};
  HeldBackend::Held held;
  HeldBackend answerer(disk, held);
  Stack stack(std::make_unique<HeldBackend>(disk, held), {{"cow", {{"blockBytes", 4096.0}}}});
  TestRequest write(wire::NBD_CMD_WRITE, 10, 4096, 1); // both its blocks are fetched
  stack.top->submit(write, Caller::may_block);
  Request *first = held.take();
  {
    std::lock_guard lock(held.plugins_lock); // submit takes it: from here, it would never return
    answerer.answer(*first);
  }
  Request *second = held.take();
  CHECK(second->offset == 4096);
  {
    std::lock_guard lock(held.plugins_lock);
    answerer.answer(*second);
  }
  CHECK(write.wait() == 0);
}

TEST_CASE("a request that nbdkit's filter gave up lives until the plugin replies") {
  struct Watched final : Layer {
    Watched(std::unique_ptr<Backend> below, bool &is_gone)
        : Layer(std::move(below)), is_gone(is_gone) {}
    ~Watched() override { is_gone = true; }
    bool &is_gone;
  };
  MemoryDisk disk{SIZE};
  HeldBackend::Held held;
  bool is_gone = false;
  std::shared_ptr<Backend> behind =
      std::make_shared<Watched>(std::make_unique<HeldBackend>(disk, held), is_gone);
  int error = 0;
  std::thread filter([&] {
    cplugin::Child *child = cplugin::Child::make(4096, behind);
    child->request.type = wire::NBD_CMD_READ;
    child->request.length_bytes = 4096;
    error = child->run(*behind);
    child->let_go();
  });
  Request *request = held.take();
  bool replies_first = false;
  SUBCASE("later") {}
  SUBCASE("before it is told") {
    replies_first = true;
  }
  memset(request->data, 1, 4096); // a late reply
  if (replies_first)
    request->completers.maker().release(*request);
  request->give_up(ESHUTDOWN);
  filter.join();
  CHECK(error == ESHUTDOWN);
  behind.reset(); // its client has gone
  CHECK(is_gone == replies_first);
  if (!replies_first)
    request->completers.maker().release(*request);
  CHECK(is_gone);
}
