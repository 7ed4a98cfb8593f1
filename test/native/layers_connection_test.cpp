// Layers behind a connection: what a client that leaves in the middle of a write has changed.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "backend/layer.hpp"
#include "filters/registry.hpp"
#include "memory_backend.hpp"
#include "nbd/connection.hpp"
#include "support.hpp"
#include "system_resources.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

constexpr uint32_t SIZE = 4 << 20;
constexpr uint32_t LENGTH = 1 << 20;

// A layer as most are: it says nothing of reservations, which refuses them.
class Plain final : public Layer {
public:
  using Layer::Layer;
};

struct Server {
  nbd::Resources &resources = system_resources();
  std::shared_ptr<host::ServerContext> context = std::make_shared<host::ServerContext>([] {});
  MemoryDisk disk{SIZE};
  TestClient client;
  std::unique_ptr<Filter> filter;
  std::unique_ptr<DiskState> state;
  Gate gate;
  bool is_open = true;

  std::unique_ptr<Backend> open(const std::string &name, const filters::FilterOptions &options) {
    std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(disk);
    if (name.empty())
      return below;
    if (name == "plain")
      return std::make_unique<Plain>(std::move(below));
    std::string error;
    filter = filters::make_filter(name, options, resources.of_backends, &error);
    REQUIRE(filter);
    prepare(*below);
    state = filter->new_disk(below->facts(), &error);
    return filter->open(&below, client.opening(), state.get(), &error);
  }

  std::shared_ptr<nbd::Connection> serve(const SocketPair &sockets,
                                         std::unique_ptr<Backend> backend,
                                         std::chrono::milliseconds grace, uint64_t max_bytes) {
    auto transport = std::make_unique<transport::Transport>(resources.page_pipes, sockets.server,
                                                            sockets.server, context->stop_fd());
    auto connection = std::make_shared<nbd::Connection>(
        resources,
        nbd::Ends{std::make_shared<nbd::ClientContext>(context, "memory", 1), std::move(transport),
                  std::move(backend)},
        nbd::TransmissionSettings{wire::NBD_FLAG_HAS_FLAGS,
                                  {16, 0, grace, std::chrono::milliseconds(0), max_bytes},
                                  nullptr},
        [this](const auto &) { gate.change([this] { is_open = false; }); });
    REQUIRE(connection->start());
    return connection;
  }

  // Reads that wait for longer than any test, and are more than the connection has memory for.
  bool ends_at_once(bool by_client) {
    constexpr std::chrono::hours LONG{1};
    SocketPair sockets;
    std::unique_ptr<Backend> backend =
        open("delay", {{"readMs", std::chrono::duration<double, std::milli>(LONG).count()}});
    prepare(*backend);
    std::shared_ptr<nbd::Connection> connection =
        serve(sockets, std::move(backend), LONG, 64 << 10);
    for (uint64_t cookie = 1; cookie <= 8; cookie++)
      CHECK(send_all(sockets.client, encode_request(wire::NBD_CMD_READ, cookie, 0, 64 << 10)));
    if (by_client)
      sockets.close_client();
    else
      context->announce_stop();
    const bool has_ended = gate.wait([this] { return !is_open; });
    const std::weak_ptr<nbd::Connection> last = connection;
    connection.reset();
    while (has_ended && !last.expired()) // its threads leave it after that
      std::this_thread::yield();
    return has_ended;
  }

  // Half a write, then nothing: how much of the disk has changed?
  size_t changed_by_half_a_write(const std::string &name, const filters::FilterOptions &options) {
    SocketPair sockets;
    std::unique_ptr<Backend> backend = open(name, options);
    prepare(*backend);
    serve(sockets, std::move(backend), std::chrono::milliseconds(10000), 64 << 20);
    std::vector<uint8_t> bytes = encode_request(wire::NBD_CMD_WRITE, 1, 0, LENGTH);
    bytes.resize(bytes.size() + LENGTH / 2, 9);
    CHECK(send_all(sockets.client, bytes));
    sockets.close_client();
    REQUIRE(gate.wait([this] { return !is_open; }));
    size_t changed = 0;
    for (const uint8_t byte : disk.bytes)
      changed += byte != 0;
    CHECK(disk.reserved == 0);
    return changed;
  }
};

} // namespace

TEST_CASE("a client that leaves during a large write changes nothing below a layer") {
  CHECK(Server().changed_by_half_a_write("plain", {}) == 0);
  CHECK(Server().changed_by_half_a_write("cow", {}) == 0);
  CHECK(Server().changed_by_half_a_write("delay", {{"writeMs", 1.0}}) == 0);
  CHECK(Server().changed_by_half_a_write("readonly", {}) == 0);
  CHECK(Server().changed_by_half_a_write("error", {{"pwriteRate", 0.5}}) == 0);
  CHECK(Server().changed_by_half_a_write("rate", {{"bits", 1e9}}) == 0);
  // As it does where the write is received on the disk itself.
  CHECK(Server().changed_by_half_a_write("", {}) > 0);
  CHECK(Server().changed_by_half_a_write("delay", {{"readMs", 1.0}}) > 0);
  CHECK(Server().changed_by_half_a_write("error", {{"preadRate", 0.5}}) > 0);
}

TEST_CASE(
    "a delayed request ends with its client or the server, even while the next waits for memory") {
  CHECK(Server().ends_at_once(true));
  CHECK(Server().ends_at_once(false));
}
