// Connections that the thread of an event loop leads: what brings them there, and all that makes
// them leave, since that thread never waits.
#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <poll.h>
#include <thread>
#include <vector>

#include "running_connection.hpp"

using namespace asyncnbd;

namespace {

constexpr uint32_t LARGE = 64 << 10;
// More than enough for the loop to be wanted.
constexpr int MANY = 20;

// As JavaScript's: serves what there is, and looks now and then who is quiet.
class Loop {
public:
  Loop() : thread_([this] { run(); }) {}
  ~Loop() { end(); }

  std::shared_ptr<schedule::LoopPoller> poller() const { return poller_; }
  bool is_this_thread() const { return std::this_thread::get_id() == thread_.get_id(); }
  // As when an environment of Node ends.
  void end() {
    ends_ = true;
    if (thread_.joinable())
      thread_.join();
  }
  // While it is held, its thread does nothing.
  std::atomic<bool> is_held{false};

private:
  void run() {
    while (!ends_) {
      pollfd ready{epoll_->fd(), POLLIN, 0};
      if (poll(&ready, 1, schedule::LoopPoller::QUIET_MS) == 0)
        poller_->release_quiet();
      else if (!is_held)
        poller_->serve();
    }
    poller_->close();
  }

  static schedule::EpollPoller *opened() {
    auto *epoll = new schedule::EpollPoller;
    REQUIRE(epoll->open());
    return epoll;
  }

  schedule::EpollPoller *const epoll_ = opened();
  const std::shared_ptr<schedule::LoopPoller> poller_ = std::make_shared<schedule::LoopPoller>(
      system_resources().runtime.clock, std::unique_ptr<schedule::Poller>(epoll_));
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

// An asynchronous backend on a loop. What it is asked is answered at once, or kept.
struct OnLoop : Running {
  OnLoop() {
    loop = thread.poller();
    world.submit = [this](backend::Request &request) { take(request); };
    world.give_up = [this] { answer_kept(ESHUTDOWN); };
  }
  ~OnLoop() {
    sockets.close_client();
    answer_kept(0);
    CHECK(wait_until_over());
    CHECK(connection->in_flight() == 0);
  }

  void take(backend::Request &request) {
    const bool is_here = thread.is_this_thread();
    bool keeps = false;
    world.gate.change([&] {
      is_led_there = is_here;
      submitted++;
      if (request.type == wire::NBD_CMD_WRITE)
        sums.push_back(request.data[0] + request.data[request.length_bytes - 1]);
      keeps = keeps_requests;
      if (keeps)
        kept.push_back(&request);
    });
    if (!keeps)
      finish(request, 0);
  }
  static void finish(backend::Request &request, int error) {
    if (request.type == wire::NBD_CMD_READ)
      memset(request.data, 7, request.length_bytes);
    request.complete(error);
  }
  void answer_kept(int error) {
    std::deque<backend::Request *> answered;
    world.gate.change([&] {
      keeps_requests = false;
      answered.swap(kept);
    });
    for (backend::Request *request : answered)
      finish(*request, error);
  }

  static std::vector<uint8_t> large_write(uint64_t cookie) {
    std::vector<uint8_t> bytes = encode_request(wire::NBD_CMD_WRITE, cookie, 0, LARGE);
    bytes.resize(bytes.size() + LARGE, static_cast<uint8_t>(cookie));
    return bytes;
  }
  bool write_large(uint64_t cookie) {
    Reply reply;
    return send_all(sockets.client, large_write(cookie)) && read_reply(sockets.client, &reply) &&
           reply.cookie == cookie && reply.error == 0;
  }
  // So many small requests, which arrive at once.
  void send_together(int count) {
    REQUIRE(send_reads(1, count));
    REQUIRE(read_replies(count).size() == static_cast<size_t>(count));
  }
  bool wait_for_submitted(int count) {
    return world.gate.wait([this, count] { return submitted >= count; });
  }
  // From here on, the loop leads.
  void move_to_loop() {
    REQUIRE(start(ThreadModel::async));
    for (int i = 0; i < MANY; i++)
      REQUIRE(write_large(static_cast<uint64_t>(i)));
    REQUIRE(is_led_there);
  }
  // It leads no more, and a request is served all the same.
  void check_led_elsewhere() {
    REQUIRE(send_reads(1, 1));
    CHECK(read_replies(1) == std::vector<uint64_t>{1});
    CHECK_FALSE(is_led_there);
  }

  Loop thread;
  // Guarded by the gate.
  bool is_led_there = false;
  bool keeps_requests = false;
  int submitted = 0;
  std::deque<backend::Request *> kept;
  std::vector<int> sums; // of what has been written: the first and the last byte
};

} // namespace

TEST_CASE("large writes bring a connection to its loop, and small requests take it away") {
  OnLoop running;
  running.move_to_loop();
  for (int i = 0; i < MANY; i++)
    CHECK(running.sums[static_cast<size_t>(i)] == 2 * i);
  running.send_together(MANY);
  running.check_led_elsewhere();
  for (int i = 0; i < MANY; i++)
    REQUIRE(running.write_large(static_cast<uint64_t>(i)));
  CHECK(running.is_led_there);
}

TEST_CASE("a client that waits for each request is led by the loop, and one that does not is not") {
  OnLoop running;
  REQUIRE(running.start(ThreadModel::async));
  running.send_together(MANY);
  CHECK_FALSE(running.is_led_there);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < MANY; i++) {
      REQUIRE(running.send_reads(1, 1));
      REQUIRE(running.read_replies(1).size() == 1);
    }
    CHECK(running.is_led_there);
    running.send_together(MANY);
    running.check_led_elsewhere();
  }
}

TEST_CASE("where many clients wait for each request, the loop leads none of them") {
  constexpr int OTHERS = 8;
  OnLoop running;
  std::vector<std::unique_ptr<OnLoop>> others;
  for (int i = 0; i < OTHERS; i++) {
    others.push_back(std::make_unique<OnLoop>());
    REQUIRE(others.back()->start(ThreadModel::async));
  }
  REQUIRE(running.start(ThreadModel::async));
  for (int i = 0; i < 3 * MANY; i++) {
    REQUIRE(running.send_reads(1, 1));
    REQUIRE(running.read_replies(1).size() == 1);
    CHECK_FALSE(running.is_led_there);
  }
}

TEST_CASE("requests that arrived before a connection moved to its loop need no further event") {
  OnLoop running;
  REQUIRE(running.start(ThreadModel::async));
  std::vector<uint8_t> all;
  for (uint64_t i = 0; i < MANY; i++) {
    const std::vector<uint8_t> one = OnLoop::large_write(i);
    all.insert(all.end(), one.begin(), one.end());
    const std::vector<uint8_t> read = encode_request(wire::NBD_CMD_READ, i, 0, 8);
    all.insert(all.end(), read.begin(), read.end());
    all.insert(all.end(), one.begin(), one.end());
  }
  std::thread sender([&] { CHECK(send_all(running.sockets.client, all)); });
  Reply reply;
  uint64_t data;
  for (int i = 0; i < MANY; i++)
    for (int each = 0; each < 3; each++) {
      REQUIRE(read_reply(running.sockets.client, &reply));
      if (each == 1)
        REQUIRE(read_all(running.sockets.client, &data, sizeof data));
    }
  sender.join();
  CHECK(running.submitted == 3 * MANY);
}

TEST_CASE("a client that stops in the middle of a payload is waited for by another thread") {
  OnLoop running;
  running.move_to_loop();
  const std::vector<uint8_t> bytes = OnLoop::large_write(MANY);
  REQUIRE(send_all(running.sockets.client, bytes.data(), bytes.size() / 2));
  std::this_thread::sleep_for(std::chrono::milliseconds(3 * schedule::LoopPoller::QUIET_MS));
  running.thread.is_held = true; // it is of no use to it any more
  REQUIRE(send_all(running.sockets.client, bytes.data() + bytes.size() / 2,
                   bytes.size() - bytes.size() / 2));
  CHECK(running.wait_for_submitted(MANY + 1));
  CHECK_FALSE(running.is_led_there);
  CHECK(running.sums.back() == 2 * MANY);
  running.thread.is_held = false;
}

TEST_CASE("a client that stops in the middle of a payload is cut after a time") {
  OnLoop running;
  running.stall_timeout = std::chrono::milliseconds(300);
  running.move_to_loop();
  const std::vector<uint8_t> bytes = OnLoop::large_write(MANY);
  REQUIRE(send_all(running.sockets.client, bytes.data(), bytes.size() / 2));
  CHECK(running.wait_until_over());
  CHECK(std::string(running.connection->failure().kind()) == nbd::failure_kind::STALLED);
}

TEST_CASE("the client leaves, or says so, while the loop leads") {
  OnLoop running;
  running.move_to_loop();
  SUBCASE("without a word") {
    running.sockets.close_client();
  }
  SUBCASE("with one") {
    REQUIRE(send_all(running.sockets.client, encode_request(wire::NBD_CMD_DISC, 0, 0, 0)));
  }
  SUBCASE("in the middle of a payload") {
    const std::vector<uint8_t> bytes = OnLoop::large_write(MANY);
    REQUIRE(send_all(running.sockets.client, bytes.data(), bytes.size() / 2));
    running.sockets.close_client();
  }
  SUBCASE("with nonsense") {
    REQUIRE(send_all(running.sockets.client, std::vector<uint8_t>(100, 'x')));
  }
  CHECK(running.wait_until_over());
  CHECK(running.world.closed == 1);
  CHECK(running.submitted == MANY);
}

TEST_CASE("the server stops while the loop leads") {
  OnLoop running;
  running.move_to_loop();
  SUBCASE("and the client waits") {
    running.connection->stop();
  }
  SUBCASE("and a request is in flight") {
    running.world.gate.change([&] { running.keeps_requests = true; });
    REQUIRE(send_all(running.sockets.client, OnLoop::large_write(MANY)));
    REQUIRE(running.wait_for_submitted(MANY + 1));
    running.connection->stop();
    running.answer_kept(0);
    Reply reply;
    CHECK(read_reply(running.sockets.client, &reply));
    CHECK(reply.cookie == MANY);
  }
  SUBCASE("and a request is never answered") {
    running.world.gate.change([&] { running.keeps_requests = true; });
    REQUIRE(send_all(running.sockets.client, OnLoop::large_write(MANY)));
    REQUIRE(running.wait_for_submitted(MANY + 1));
    running.connection->stop(std::chrono::milliseconds(100));
  }
  SUBCASE("at once") {
    running.connection->abort();
  }
  CHECK(running.wait_until_over());
  CHECK(running.world.closed == 1);
}

TEST_CASE("without memory for another request, another thread waits for it") {
  OnLoop running;
  running.max_bytes = 8 * LARGE;
  running.move_to_loop();
  running.world.gate.change([&] { running.keeps_requests = true; });
  std::thread sender([&] {
    for (uint64_t i = 0; i < MANY; i++)
      CHECK(send_all(running.sockets.client, OnLoop::large_write(i)));
  });
  REQUIRE(running.wait_for_submitted(MANY + 4));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  running.world.gate.change([&] { CHECK(running.submitted < MANY + 9); });
  running.answer_kept(0);
  Reply reply;
  for (int i = 0; i < MANY; i++)
    REQUIRE(read_reply(running.sockets.client, &reply));
  sender.join();
  CHECK(running.submitted == 2 * MANY);
}

TEST_CASE("a client that does not read its replies is waited for by another thread") {
  constexpr int PAIRS = 100;
  constexpr uint32_t READ_BYTES = 256 << 10;
  OnLoop running;
  running.move_to_loop();
  std::thread sender([&] {
    for (uint64_t i = 0; i < PAIRS; i++) {
      CHECK(send_all(running.sockets.client, OnLoop::large_write(2 * i)));
      CHECK(send_all(running.sockets.client,
                     encode_request(wire::NBD_CMD_READ, 2 * i + 1, 0, READ_BYTES)));
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::vector<uint8_t> data(READ_BYTES);
  int answered = 0;
  for (Reply reply; answered < 2 * PAIRS && read_reply(running.sockets.client, &reply); answered++)
    if (reply.cookie % 2 == 1 && !read_all(running.sockets.client, data.data(), data.size()))
      break;
  sender.join();
  CHECK(answered == 2 * PAIRS);
}

TEST_CASE("when the loop ends, other threads lead what it has led") {
  OnLoop running;
  running.move_to_loop();
  SUBCASE("while the client is silent") {
    running.thread.end();
  }
  SUBCASE("in the middle of a payload") {
    const std::vector<uint8_t> bytes = OnLoop::large_write(MANY);
    REQUIRE(send_all(running.sockets.client, bytes.data(), bytes.size() / 2));
    running.thread.end();
    REQUIRE(send_all(running.sockets.client, bytes.data() + bytes.size() / 2,
                     bytes.size() - bytes.size() / 2));
    Reply reply;
    CHECK(read_reply(running.sockets.client, &reply));
    CHECK(running.sums.back() == 2 * MANY);
  }
  running.check_led_elsewhere();
  for (int i = 0; i < MANY; i++) // nor does it go there any more
    REQUIRE(running.write_large(static_cast<uint64_t>(i)));
  running.check_led_elsewhere();
}

TEST_CASE("many connections come to one loop and leave it while it ends") {
  constexpr int CLIENTS = 8;
  for (int round = 0; round < 10; round++) {
    Loop loop;
    std::vector<std::thread> clients;
    std::atomic<int> served{0};
    for (int client = 0; client < CLIENTS; client++)
      clients.emplace_back([&, client] {
        Running running;
        running.loop = loop.poller();
        running.world.submit = [](backend::Request &request) { OnLoop::finish(request, 0); };
        if (!running.start(ThreadModel::async))
          return;
        for (uint64_t i = 0; i < 60; i++) {
          Reply reply;
          const bool writes = (i + static_cast<uint64_t>(client)) / 15 % 2 == 0;
          const bool is_sent = writes ? send_all(running.sockets.client, OnLoop::large_write(i))
                                      : send_all(running.sockets.client,
                                                 encode_request(wire::NBD_CMD_FLUSH, i, 0, 0));
          if (!is_sent || !read_reply(running.sockets.client, &reply) || reply.cookie != i)
            break;
          served++;
        }
        running.sockets.close_client();
        running.wait_until_over();
      });
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    loop.end();
    for (std::thread &client : clients)
      client.join();
    CHECK(served == CLIENTS * 60);
  }
}
