// A connection under test: its client's end of a pair of sockets, and a backend made for each case.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "nbd/connection.hpp"
#include "prepare.hpp"
#include "support.hpp"
#include "system_resources.hpp"

namespace asyncnbd {

using backend::ThreadModel;

inline constexpr uint64_t SIZE = 1 << 20;
inline constexpr uint16_t FLAGS = wire::NBD_FLAG_HAS_FLAGS | wire::NBD_FLAG_SEND_FLUSH;

// What a case wants its backend to do, and what it sees of it. Outlives the connection.
struct World {
  Gate gate;
  std::function<void(backend::Request &)> submit;
  std::function<void()> give_up;
  std::function<backend::Reservation(backend::Request &)> reserve; // or there are none
  int unreserved = 0;
  int inside = 0;
  int most_inside = 0;
  int completed = 0;
  int closed = 0;
  int completed_at_close = -1;
  bool over = false;
};

class TestBackend final : public backend::Backend {
public:
  TestBackend(World &world, ThreadModel model) : world_(world), model_(model) {}
  void submit(backend::Request &request, backend::Caller) override { world_.submit(request); }
  backend::Reservation reserve(backend::Request &request) override {
    return world_.reserve ? world_.reserve(request) : backend::Reservation{};
  }
  void unreserve(backend::Request &) override { world_.unreserved++; }
  void give_up_unanswered() override {
    if (world_.give_up)
      world_.give_up();
  }
  void close() override {
    world_.gate.change([this] {
      world_.closed++;
      world_.completed_at_close = world_.completed;
    });
  }

private:
  bool collect(const backend::Wanted &, backend::Facts *facts, std::string *) override {
    facts->size_bytes = SIZE;
    facts->thread_model = model_;
    return true;
  }

  World &world_;
  ThreadModel model_;
};

struct Running {
  explicit Running(nbd::Resources &resources = system_resources())
      : resources(resources), client(std::make_shared<nbd::ClientContext>(server, "test", 1)) {}

  nbd::Resources &resources;
  World world;
  SocketPair sockets;
  std::shared_ptr<host::ServerContext> server = std::make_shared<host::ServerContext>([] {});
  std::shared_ptr<nbd::ClientContext> client;
  std::shared_ptr<nbd::Connection> connection; // once started

  std::chrono::milliseconds grace{30000};
  std::chrono::milliseconds stall_timeout{0};
  uint64_t max_bytes = 256 << 20;
  std::shared_ptr<base::MemoryBudget> budget;
  std::shared_ptr<schedule::LoopPoller> loop; // the backend's, or it has none

  bool start(ThreadModel model, unsigned max_threads = 16) {
    auto transport = std::make_unique<transport::Transport>(resources.page_pipes, sockets.server,
                                                            sockets.server, server->stop_fd());
    std::unique_ptr<backend::Backend> backend = std::make_unique<TestBackend>(world, model);
    prepare(*backend);
    connection = std::make_shared<nbd::Connection>(
        resources, nbd::Ends{client, std::move(transport), std::move(backend), loop},
        nbd::TransmissionSettings{FLAGS, {max_threads, 0, grace, stall_timeout, max_bytes}, budget},
        [this](const auto &) { world.gate.change([this] { world.over = true; }); });
    return connection->start();
  }
  bool wait_until_over() {
    return world.gate.wait([this] { return world.over; });
  }
  // A backend's part that counts who is inside and stays there until `may_leave`.
  void block(backend::Request &request, const std::function<bool()> &may_leave) {
    world.gate.change([this] {
      world.inside++;
      world.most_inside = std::max(world.most_inside, world.inside);
    });
    world.gate.wait(may_leave);
    world.gate.change([this] {
      world.inside--;
      world.completed++;
    });
    request.complete(0);
  }
  bool send_reads(uint64_t first_cookie, int count) {
    std::vector<uint8_t> bytes;
    for (int i = 0; i < count; i++) {
      auto request = encode_request(wire::NBD_CMD_READ, first_cookie + i, 0, 8);
      bytes.insert(bytes.end(), request.begin(), request.end());
    }
    return send_all(sockets.client, bytes);
  }
  // The cookies of the replies to reads of 8 bytes.
  std::vector<uint64_t> read_replies(int count) {
    std::vector<uint64_t> cookies;
    Reply reply;
    uint64_t data;
    while (count-- > 0 && read_reply(sockets.client, &reply) && reply.error == 0 &&
           read_all(sockets.client, &data, sizeof data))
      cookies.push_back(reply.cookie);
    return cookies;
  }
};

} // namespace asyncnbd
