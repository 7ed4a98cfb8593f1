// The asynchronous model under fire, without Node around it, so that ThreadSanitizer can watch: a
// plugin that answers from 8 threads in every way there is, by itself and behind five filters,
// clients that verify, clients that die.
#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <filesystem>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "backend/c_backend.hpp"
#include "backend/c_bottom.hpp"
#include "host/log.hpp"
#include "nbd/connection.hpp"
#include "random_stack.hpp"
#include "support.hpp"
#include "system_resources.hpp"

using namespace asyncnbd;

namespace {

constexpr uint32_t SIZE = 8 << 20;
constexpr uint32_t REGION = 64 << 10;
constexpr uint32_t BLOCK = 4096;
constexpr uint64_t IN_FLIGHT = 64;
constexpr int ROUNDS = 10;
constexpr uint16_t FLAGS =
    wire::NBD_FLAG_HAS_FLAGS | wire::NBD_FLAG_SEND_FLUSH | wire::NBD_FLAG_SEND_TRIM;

std::string torture_plugin() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "nbdkit-torture-plugin.so";
}

// A server without sockets to listen on: each client is one end of a pair.
struct Server {
  nbd::Resources &resources = system_resources();
  std::shared_ptr<backend::CPlugin> plugin =
      std::make_shared<backend::CPlugin>(torture_plugin(), resources.of_backends);
  std::shared_ptr<host::ServerContext> context = std::make_shared<host::ServerContext>([] {});
  std::shared_ptr<base::MemoryBudget> budget =
      std::make_shared<base::MemoryBudget>(4 << 20); // so that clients wait for each other
  std::shared_ptr<backend::Chain> chain;             // in front of it, or there is none
  Gate gate;
  int open = 0;
  uint64_t count = 0;
  std::deque<backend::CBottom> bottoms; // of all clients that there have been

  bool connect(SocketPair *sockets) {
    uint64_t number = 0;
    gate.change([&] {
      open++;
      number = ++count;
    });
    auto client = std::make_shared<nbd::ClientContext>(context, "torture", number);
    client->export_name = "";
    std::unique_ptr<backend::Backend> backend = open_for(*client);
    if (backend == nullptr)
      return false;
    auto transport = std::make_unique<transport::Transport>(resources.page_pipes, sockets->server,
                                                            sockets->server, context->stop_fd());
    auto connection = std::make_shared<nbd::Connection>(
        resources, nbd::Ends{client, std::move(transport), std::move(backend)},
        nbd::TransmissionSettings{
            FLAGS,
            {16, 0, std::chrono::milliseconds(10000), std::chrono::milliseconds(0), 1 << 20},
            budget},
        [this](const auto &) { gate.change([this] { open--; }); });
    return connection->start();
  }
  std::unique_ptr<backend::Backend> open_for(host::CallContext &client) {
    backend::CBottom *bottom = nullptr;
    gate.change([&] { bottom = &bottoms.emplace_back(plugin, client, 16); });
    std::string error;
    return chain ? chain->open(*bottom, {"", false, nullptr, {}}, &error)
                 : backend::open_without_filters(*bottom, "", false, {}, backend::Submitter::leader,
                                                 &error);
  }
  bool wait_until_all_closed() {
    return gate.wait([this] { return open == 0; }, std::chrono::seconds(60));
  }
};

std::vector<uint8_t> content(uint64_t part, int round, uint64_t block) {
  return std::vector<uint8_t>(
      BLOCK, static_cast<uint8_t>(part * 89 + static_cast<uint64_t>(round) * 7 + block));
}

// Writes and reads back blocks of its own part of the first half. True if all went well.
bool verify(Server &server, uint64_t part) {
  SocketPair sockets;
  if (!server.connect(&sockets))
    return false;
  const uint64_t base = part * IN_FLIGHT * BLOCK;
  for (int round = 0; round < ROUNDS; round++) {
    for (uint64_t block = 0; block < IN_FLIGHT; block++) {
      std::vector<uint8_t> bytes =
          encode_request(wire::NBD_CMD_WRITE, block, base + block * BLOCK, BLOCK);
      const std::vector<uint8_t> payload = content(part, round, block);
      bytes.insert(bytes.end(), payload.begin(), payload.end());
      if (!send_all(sockets.client, bytes))
        return false;
    }
    Reply reply;
    for (uint64_t i = 0; i < IN_FLIGHT; i++)
      if (!read_reply(sockets.client, &reply) || reply.error != 0)
        return false;
    for (uint64_t block = 0; block < IN_FLIGHT; block++)
      if (!send_all(sockets.client,
                    encode_request(wire::NBD_CMD_READ, block, base + block * BLOCK, BLOCK)))
        return false;
    for (uint64_t i = 0; i < IN_FLIGHT; i++) {
      std::vector<uint8_t> data(BLOCK);
      if (!read_reply(sockets.client, &reply) || reply.error != 0 ||
          !read_all(sockets.client, data.data(), data.size()) ||
          data != content(part, round, reply.cookie))
        return false;
    }
    if (!send_all(sockets.client, encode_request(wire::NBD_CMD_READ, 7, SIZE / 2 + REGION, 1)) ||
        !read_reply(sockets.client, &reply) || reply.error != wire::NBD_EIO)
      return false;
  }
  return send_all(sockets.client, encode_request(wire::NBD_CMD_DISC, 0, 0, 0));
}

// Asks for much and leaves, at any moment.
void come_and_go(Server &server, unsigned seed, const std::atomic<bool> &over) {
  std::mt19937 random(seed);
  while (!over) {
    SocketPair sockets;
    if (!server.connect(&sockets))
      return;
    for (uint64_t cookie = 0; cookie < 100; cookie++) {
      const uint32_t length = 1 + random() % REGION;
      const uint64_t offset = SIZE / 2 + random() % (SIZE / 2 - REGION);
      const bool writes = random() % 2 == 0;
      std::vector<uint8_t> bytes =
          encode_request(writes ? wire::NBD_CMD_WRITE : wire::NBD_CMD_READ, cookie, offset, length);
      if (writes)
        bytes.resize(bytes.size() + length);
      // Not all of it, for nobody reads the replies.
      send(sockets.client, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 10));
  }
}

// Five that change neither the size nor what may be done, the outermost first.
std::shared_ptr<backend::Chain> draw_chain(uint32_t seed, Faults &faults, StackClients &clients) {
  static constexpr const char *NAMES[] = {
      "hostile", "blocksize",  "cache",      "cacheextents", "cow",           "delay",
      "fua",     "log",        "multi-conn", "noparallel",   "nozero",        "pause",
      "rate",    "extentlist", "readahead",  "retry",        "retry-request", "stats"};
  RandomStack stack(seed, SIZE, faults, clients);
  std::mt19937 random(seed);
  for (unsigned i = 0; i < 5; i++)
    stack.add(NAMES[random() % std::size(NAMES)]);
  MESSAGE("stack:" << stack.words());
  return stack.chain();
}

void run_clients(Server &server) {
  std::atomic<bool> over{false};
  std::atomic<int> verified{0};
  std::vector<std::thread> passing;
  std::vector<std::thread> staying;
  for (unsigned i = 0; i < 2; i++)
    passing.emplace_back([&, i] { come_and_go(server, i, over); });
  for (uint64_t part = 0; part < 3; part++)
    staying.emplace_back([&, part] { verified += verify(server, part); });
  for (std::thread &thread : staying)
    thread.join();
  over = true;
  for (std::thread &thread : passing)
    thread.join();
  CHECK(verified == 3);
}

void serve(std::shared_ptr<backend::Chain> chain) {
  Server server;
  host::log_configure("torture_test", false, host::LogSink::none); // it fails as it should
  REQUIRE_FALSE(server.plugin->open());
  REQUIRE_FALSE(server.plugin->config("size", std::to_string(SIZE)));
  server.plugin->load();
  REQUIRE_FALSE(server.plugin->settle_thread_model());
  REQUIRE_FALSE(server.plugin->get_ready());
  REQUIRE_FALSE(server.plugin->after_fork());
  server.chain = std::move(chain);
  if (server.chain)
    server.chain->get_ready(static_cast<int>(server.plugin->thread_model()));
  run_clients(server);
  CHECK(server.wait_until_all_closed());
  CHECK(server.budget->taken_bytes() == 0);
  CHECK(server.plugin->unanswered_requests == 0);
  if (server.chain)
    server.chain->end();
  server.plugin->cleanup();
  server.plugin->unload();
}

} // namespace

TEST_CASE("each client gets its own data, and every connection ends") {
  serve(nullptr);
}

TEST_CASE("each client gets its own data through five filters, and every connection ends") {
  struct Used {
    Faults faults;
    StackClients clients;
  };
  // Requests that were given up may be answered after all, so these are never destroyed.
  static auto *used = new std::deque<Used>;
  for (uint32_t seed = 1; seed <= 4; seed++) {
    CAPTURE(seed);
    auto &[faults, clients] = used->emplace_back();
    serve(draw_chain(seed, faults, clients));
    CHECK(faults.changed_fields == 0);
    CHECK(faults.submits_in_completions == 0);
  }
}
