// Requests go over the bridge and come back, each once, whatever both sides do at the same time.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "backend/script_bridge.hpp"
#include "wire/commands.hpp"

using namespace asyncnbd::backend;
namespace wire = asyncnbd::wire;

namespace {

struct Client final : Maker {
  std::atomic<int> completed{0};
  std::atomic<int> failed{0};

  void complete(Request &request, int error) override {
    completed++;
    failed += error != 0;
    last_error = error;
    if (request.answer.give_back != nullptr) {
      memcpy(request.data, request.answer.data, request.length_bytes);
      request.answer.give_back(request.answer.opaque);
      request.answer = {};
    }
  }
  void give_up(Request &, int) override { FAIL("not this way"); }
  void release(Request &) override { FAIL("not this way"); }
  bool client_has_gone() const override { return false; }

  std::atomic<int> last_error{0};
};

// The script's side: reads fill with the low byte of the offset, writes must hold it.
struct Script {
  std::atomic<int> wakes{0};
  std::shared_ptr<ScriptBridge> bridge = std::make_shared<ScriptBridge>([this] { wakes++; });
  uint32_t pending = 0;
  int mismatches = 0;
  int closes = 0;
  std::vector<double> extents; // the answer to a block status

  void answer(const ScriptBatch::Submission &submission) {
    int error = 0;
    if (submission.command == wire::NBD_CMD_BLOCK_STATUS)
      error = bridge->answer(submission.operation, extents.data(), extents.size()) ? 0 : EIO;
    if (submission.slot != ScriptBatch::NO_SLOT) {
      const SlotPool::Slab slab = bridge->slab_of(submission.slot);
      uint8_t *data =
          slab.data + static_cast<size_t>(submission.slot - slab.first_slot) * slab.slot_bytes;
      const auto byte = static_cast<uint8_t>(submission.offset);
      if (submission.command == wire::NBD_CMD_READ)
        memset(data, byte, static_cast<size_t>(submission.length_bytes));
      else
        mismatches +=
            data[0] != byte || data[static_cast<size_t>(submission.length_bytes) - 1] != byte;
    }
    closes += submission.command == SCRIPT_CLOSE;
    bridge->batch().completions[pending++] = {submission.operation, static_cast<uint32_t>(error)};
  }

  // One turn; how many it has got.
  uint32_t turn() {
    const uint32_t count = bridge->exchange(std::exchange(pending, 0), ScriptBatch::CAPACITY);
    for (uint32_t i = 0; i < count; i++)
      answer(bridge->batch().submissions[i]);
    return count;
  }
};

Request request_of(Client &client, uint16_t type, uint64_t offset, std::vector<uint8_t> &data) {
  Request request{};
  request.completers.reset(client);
  request.type = type;
  request.offset = offset;
  request.length_bytes = static_cast<uint32_t>(data.size());
  request.data = data.data();
  return request;
}

} // namespace

TEST_CASE("small and large reads and writes carry their data") {
  Script script;
  ScriptBackend backend(script.bridge, 7, {});
  Client client;
  for (size_t bytes : {1u, 512u, 4096u, 4097u, 65536u, 1u << 20, 64u << 20}) {
    std::vector<uint8_t> data(bytes, 9);
    Request write = request_of(client, wire::NBD_CMD_WRITE, 9, data);
    backend.submit(write, Caller::may_block);
    Request read = request_of(client, wire::NBD_CMD_READ, 5, data);
    backend.submit(read, Caller::may_block);
    while (script.turn() > 0) { // once or twice: a batch ends with a large request
    }
    CHECK(data.front() == 5);
    CHECK(data.back() == 5);
  }
  CHECK(script.mismatches == 0);
  CHECK(client.completed == 14);
  CHECK(client.failed == 0);
}

namespace {

// As a connection does it: nullptr if the payload is to come elsewhere.
uint8_t *reserve(ScriptBackend &backend, Request &request) {
  const Reservation reservation = backend.reserve(request);
  CHECK(reservation.spares_copy == (reservation.data != nullptr));
  request.is_reserved = reservation.data != nullptr;
  if (request.is_reserved)
    request.data = reservation.data;
  return reservation.data;
}

// What a script may see of a client's request, besides that.
bool is_zero(const uint8_t *data, size_t bytes) {
  return std::all_of(data, data + bytes, [](uint8_t byte) { return byte == 0; });
}

} // namespace

TEST_CASE("a payload received into a slot is where the script finds it") {
  Script script;
  ScriptBackend backend(script.bridge, 7, {});
  Client client;
  std::vector<uint8_t> none(100 << 10);
  for (uint8_t round = 1; round < 4; round++) {
    Request write = request_of(client, wire::NBD_CMD_WRITE, round, none);
    uint8_t *place = reserve(backend, write);
    REQUIRE(place != nullptr);
    memset(place, round, none.size());
    backend.submit(write, Caller::may_block);
    REQUIRE(script.turn() == 1);
    const ScriptBatch::Submission &submission = script.bridge->batch().submissions[0];
    const SlotPool::Slab slab = script.bridge->slab_of(submission.slot);
    CHECK(slab.data + size_t{submission.slot - slab.first_slot} * slab.slot_bytes == place);
    script.turn();
  }
  CHECK(script.mismatches == 0);
  CHECK(client.completed == 3);
}

TEST_CASE("half a payload in a slot is never visible") {
  Script script;
  Client client;
  std::vector<uint8_t> data(128 << 10);
  uint8_t *place = nullptr;
  ScriptBackend poor(script.bridge, 2, {});
  {
    ScriptBackend rich(script.bridge, 1, {});
    Request write = request_of(client, wire::NBD_CMD_WRITE, 0, data);
    place = reserve(rich, write);
    REQUIRE(place != nullptr);
    memset(place, 'S', data.size());
    rich.submit(write, Caller::may_block);
    script.turn();
    script.turn();
    Request half = request_of(client, wire::NBD_CMD_WRITE, 0, data);
    REQUIRE(reserve(rich, half) == place);
    memset(place, 'H', data.size() / 2);
    rich.unreserve(half);
  }
  SUBCASE("in a read") {
    Request read = request_of(client, wire::NBD_CMD_READ, 0, data);
    poor.submit(read, Caller::may_block);
    CHECK(is_zero(place, data.size()));
    script.turn();
    script.turn();
  }
  SUBCASE("behind a shorter write") {
    std::vector<uint8_t> shorter(data.size() - 4096, 'P');
    Request write = request_of(client, wire::NBD_CMD_WRITE, 'P', shorter);
    REQUIRE(reserve(poor, write) == place);
    CHECK(is_zero(place + shorter.size(), data.size() - shorter.size()));
    poor.unreserve(write);
  }
}

TEST_CASE("large payloads, reads and a closed script get no slot in advance") {
  Script script;
  ScriptBackend backend(script.bridge, 0, {});
  Client client;
  std::vector<uint8_t> large((256 << 10) + 1);
  std::vector<uint8_t> small(64 << 10);
  Request long_write = request_of(client, wire::NBD_CMD_WRITE, 0, large);
  CHECK(reserve(backend, long_write) == nullptr);
  Request read = request_of(client, wire::NBD_CMD_READ, 0, small);
  CHECK(reserve(backend, read) == nullptr);
  Request before = request_of(client, wire::NBD_CMD_WRITE, 0, small);
  CHECK(reserve(backend, before) != nullptr);
  Request unwanted = request_of(client, wire::NBD_CMD_WRITE, 0, small);
  CHECK(reserve(backend, unwanted) != nullptr);
  script.bridge->shut();
  Request after = request_of(client, wire::NBD_CMD_WRITE, 0, small);
  CHECK(reserve(backend, after) == nullptr);
  backend.unreserve(unwanted);
  backend.submit(before, Caller::may_block);
  CHECK(client.last_error == ESHUTDOWN);
  while (script.bridge->trim()) { // both have come back
  }
}

TEST_CASE("a sleeping script is woken once, and not while it is awake") {
  Script script;
  ScriptBackend backend(script.bridge, 0, {});
  Client client;
  std::vector<uint8_t> data(8);
  std::vector<Request> requests;
  for (int i = 0; i < 3; i++)
    requests.push_back(request_of(client, wire::NBD_CMD_READ, 0, data));
  for (Request &request : requests)
    backend.submit(request, Caller::may_block);
  CHECK(script.wakes == 1);
  CHECK(script.turn() == 3);
  CHECK(script.turn() == 0);
  backend.submit(requests[0], Caller::may_block);
  CHECK(script.wakes == 2);
}

TEST_CASE(
    "a request that is given up is answered once, and its slot is kept until the script is done") {
  Script script;
  ScriptBackend backend(script.bridge, 0, {});
  Client client;
  std::vector<uint8_t> data(4096);
  Request taken = request_of(client, wire::NBD_CMD_READ, 1, data);
  backend.submit(taken, Caller::may_block);
  REQUIRE(script.turn() == 1);
  Request queued = request_of(client, wire::NBD_CMD_READ, 2, data);
  backend.submit(queued, Caller::may_block);
  CHECK(script.bridge->give_up(backend) == 2);
  CHECK(client.failed == 2);
  CHECK(client.last_error == ESHUTDOWN);
  CHECK(script.turn() == 0); // takes the late answer; the one in the queue never gets over
  CHECK(client.completed == 2);
}

TEST_CASE("a closed bridge answers everything at once") {
  Script script;
  ScriptBackend backend(script.bridge, 0, {});
  Client client;
  std::vector<uint8_t> data(4096);
  Request request = request_of(client, wire::NBD_CMD_READ, 1, data);
  backend.submit(request, Caller::may_block);
  std::thread closer([&] { backend.close(); });
  while (script.wakes == 0)
    std::this_thread::yield();
  script.bridge->shut();
  closer.join();
  CHECK(client.failed == 1);
  backend.submit(request, Caller::may_block);
  CHECK(client.failed == 2);
}

TEST_CASE("several connections at once: every request is answered once, close comes last") {
  constexpr int THREADS = 4;
  constexpr int ROUNDS = 200;
  constexpr size_t DEPTH = 64;
  Script script;
  std::atomic<int> running{THREADS};
  std::atomic<int> answered{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < THREADS; i++)
    threads.emplace_back([&, i] {
      ScriptBackend backend(script.bridge, static_cast<uint32_t>(i), {});
      Client client;
      std::vector<std::vector<uint8_t>> data(DEPTH);
      for (int round = 0; round < ROUNDS; round++) {
        std::vector<Request> requests;
        for (size_t j = 0; j < DEPTH; j++) {
          const bool writes = j % 2 == 0;
          data[j].assign(j % 8 == 0 ? 32768 : 512, static_cast<uint8_t>(j));
          requests.push_back(
              request_of(client, writes ? wire::NBD_CMD_WRITE : wire::NBD_CMD_READ, j, data[j]));
        }
        const int before = client.completed;
        for (Request &request : requests)
          backend.submit(request, Caller::may_block);
        while (client.completed != before + static_cast<int>(DEPTH))
          std::this_thread::yield();
      }
      backend.close();
      answered += client.completed - client.failed;
      running--;
    });
  while (running > 0)
    if (script.turn() == 0)
      std::this_thread::yield();
  for (std::thread &thread : threads)
    thread.join();
  CHECK(answered == THREADS * ROUNDS * static_cast<int>(DEPTH));
  CHECK(script.mismatches == 0);
  CHECK(script.closes == THREADS);
}

TEST_CASE("extents come back from the script, and nonsense is an error") {
  Script script;
  ScriptBackend backend(script.bridge, 0, {});
  Client client;
  std::vector<uint8_t> none;
  auto ask = [&](std::vector<double> answer) {
    script.extents = std::move(answer);
    Request request = request_of(client, wire::NBD_CMD_BLOCK_STATUS, 0, none);
    request.make_extras().statuses.push_back({1, 0, {}});
    const int failed = client.failed;
    backend.submit(request, Caller::may_block);
    while (script.turn() > 0) {
    }
    script.turn();
    if (client.failed != failed)
      request.extras->statuses[0].extents.clear();
    return request.extras->statuses[0].extents;
  };
  auto extents = ask({2, 4096, 0, 0, 8192, 3, 5});
  REQUIRE(extents.size() == 2);
  CHECK(extents[0].length_bytes == 4096);
  CHECK(extents[1].flags == (UINT64_C(5) << 32 | 3));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (std::vector<double> wrong : std::vector<std::vector<double>>{{0},
                                                                    {-1},
                                                                    {nan},
                                                                    {1e9},
                                                                    {1, 0, 0, 0},
                                                                    {1, nan, 0, 0},
                                                                    {1, 1e300, 0, 0},
                                                                    {1, 1, -1, 0},
                                                                    {1, 1, 0, 1e10}})
    CHECK(ask(wrong).empty());
}
