// Many connections that wait for their clients without a thread each.
#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "running_connection.hpp"

using namespace asyncnbd;

namespace {

constexpr int MANY = 64;

// Threads of ours that serve connections or wait to.
int serving_threads() {
  int count = 0;
  for (const auto &task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "comm");
    std::string name;
    count += std::getline(file, name) && name == "nbd-connection";
  }
  return count;
}

bool wait_for(const std::function<bool()> &condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

struct Crowd {
  std::deque<Running> all;

  explicit Crowd(ThreadModel model, const std::function<void(backend::Request &)> &submit,
                 unsigned max_threads = 16, int count = MANY) {
    for (int i = 0; i < count; i++) {
      Running &running = all.emplace_back();
      running.world.submit = submit;
      REQUIRE(running.start(model, max_threads));
    }
  }
  // Their calls are known to be quick then, so that those without a request wait in the room.
  void settle() {
    for (int i = 0; i < 10; i++)
      ask_all();
  }
  void ask_all() {
    for (Running &running : all)
      REQUIRE(running.send_reads(1, 3));
    for (Running &running : all)
      CHECK(running.read_replies(3).size() == 3);
  }
  void part() {
    for (Running &running : all)
      running.sockets.close_client();
    for (Running &running : all)
      CHECK(running.wait_until_over());
  }
};

void answer(backend::Request &request) {
  request.complete(0);
}

} // namespace

TEST_CASE("many waiting connections need few threads") {
  Crowd crowd(ThreadModel::parallel, answer);
  for (int i = 0; i < 20; i++)
    crowd.ask_all();
  // Threads that have served a connection's beginning go away when nobody has needed them.
  CHECK(wait_for([] { return serving_threads() <= 10; }));
  crowd.ask_all();
  crowd.part();
}

TEST_CASE("blocking calls stall no other connection, whatever the thread model") {
  for (ThreadModel model : {ThreadModel::serialize_requests, ThreadModel::parallel}) {
    Gate gate;
    std::atomic<int> blocked{0};
    bool open = false;
    std::atomic<bool> blocks{false};
    Crowd crowd(model, [&](backend::Request &request) {
      if (blocks && request.offset == 8) {
        blocked++;
        gate.wait([&] { return open; });
      }
      request.complete(0);
    });
    crowd.settle();
    blocks = true;
    for (int i = 0; i < MANY / 2; i++)
      REQUIRE(send_all(crowd.all[i].sockets.client, encode_request(wire::NBD_CMD_READ, 9, 8, 8)));
    for (int i = MANY / 2; i < MANY; i++) {
      REQUIRE(crowd.all[i].send_reads(1, 4));
      CHECK(crowd.all[i].read_replies(4).size() == 4);
    }
    CHECK(wait_for([&] { return blocked == MANY / 2; }));
    gate.change([&] { open = true; });
    for (int i = 0; i < MANY / 2; i++)
      CHECK(crowd.all[i].read_replies(1).size() == 1);
    crowd.ask_all();
    crowd.part();
  }
}

TEST_CASE("a client that does not read its replies stalls no other connection") {
  Crowd crowd(ThreadModel::parallel, answer);
  crowd.settle();
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 4; k++)
      REQUIRE(send_all(crowd.all[i].sockets.client,
                       encode_request(wire::NBD_CMD_READ, k, 0, static_cast<uint32_t>(SIZE))));
  for (int i = 4; i < MANY; i++) {
    REQUIRE(crowd.all[i].send_reads(1, 4));
    CHECK(crowd.all[i].read_replies(4).size() == 4);
  }
  crowd.part();
}

TEST_CASE("a server that stops ends connections that wait") {
  Crowd crowd(ThreadModel::parallel, answer);
  crowd.settle();
  for (Running &running : crowd.all) {
    running.server->announce_stop();
    running.connection->stop();
  }
  for (Running &running : crowd.all)
    CHECK(running.wait_until_over());
}

TEST_CASE("connections that wait can be aborted, and are closed once when clients leave as well") {
  Crowd crowd(ThreadModel::parallel, answer);
  crowd.settle();
  for (int i = 0; i < MANY; i++) {
    if (i % 2 == 0)
      crowd.all[i].connection->abort();
    else
      crowd.all[i].sockets.close_client();
  }
  for (Running &running : crowd.all) {
    CHECK(running.wait_until_over());
    CHECK(running.world.closed == 1);
  }
}

TEST_CASE("clients that pause in the middle of a request stall no other connection") {
  Crowd crowd(ThreadModel::parallel, answer);
  crowd.settle();
  const std::vector<uint8_t> half(2048, 1);
  for (int i = 0; i < MANY / 2; i++) {
    REQUIRE(send_all(crowd.all[i].sockets.client, encode_request(wire::NBD_CMD_WRITE, 7, 0, 4096)));
    REQUIRE(send_all(crowd.all[i].sockets.client, half));
  }
  for (int i = MANY / 2; i < MANY; i++) {
    REQUIRE(crowd.all[i].send_reads(1, 4));
    CHECK(crowd.all[i].read_replies(4).size() == 4);
  }
  for (int i = 0; i < MANY / 2; i++) {
    REQUIRE(send_all(crowd.all[i].sockets.client, half));
    Reply reply;
    CHECK(read_reply(crowd.all[i].sockets.client, &reply));
    CHECK(reply.cookie == 7);
  }
  crowd.ask_all();
  crowd.part();
}

TEST_CASE("a client that asks and closes its end at once gets its reply, and then the end") {
  Crowd crowd(ThreadModel::parallel, answer);
  for (int round = 0; round < 4; round++)
    crowd.settle();
  for (Running &running : crowd.all) {
    REQUIRE(running.send_reads(1, 1));
    shutdown(running.sockets.client, SHUT_WR);
  }
  for (Running &running : crowd.all) {
    CHECK(running.read_replies(1).size() == 1);
    uint8_t byte;
    CHECK(recv(running.sockets.client, &byte, 1, 0) == 0);
    CHECK(running.wait_until_over());
  }
}

// A receive stops behind a descriptor that is passed, though there is more.
TEST_CASE("input left behind by a receive is soon seen") {
  Crowd crowd(ThreadModel::parallel, answer);
  crowd.settle();
  auto request = encode_request(wire::NBD_CMD_READ, 1, 0, 8);
  for (int i = 0; i < 8; i++) {
    iovec data{request.data(), request.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    const int passed = STDIN_FILENO;
    memcpy(CMSG_DATA(header), &passed, sizeof passed);
    const int client = crowd.all[static_cast<size_t>(i)].sockets.client;
    REQUIRE(sendmsg(client, &message, 0) == static_cast<ssize_t>(request.size()));
    REQUIRE(send_all(client, request));
  }
  for (int i = 0; i < 8; i++)
    CHECK(crowd.all[static_cast<size_t>(i)].read_replies(2).size() == 2);
  crowd.part();
}

TEST_CASE("a connection that begins while the server stops ends") {
  Crowd crowd(ThreadModel::parallel, answer);
  crowd.settle();
  Running late;
  late.world.submit = answer;
  late.server->announce_stop();
  REQUIRE(late.start(ThreadModel::parallel));
  CHECK(late.wait_until_over());
  crowd.part();
}

TEST_CASE("a burst of 9,000 requests is answered, and so is what comes after it") {
  Crowd crowd(ThreadModel::parallel, answer);
  crowd.settle();
  constexpr int COUNT = 9000;
  std::vector<uint8_t> burst;
  for (int i = 0; i < COUNT; i++) {
    auto flush = encode_request(wire::NBD_CMD_FLUSH, i, 0, 0);
    burst.insert(burst.end(), flush.begin(), flush.end());
  }
  std::thread client([&] { CHECK(send_all(crowd.all[0].sockets.client, burst)); });
  std::vector<uint8_t> replies(COUNT * wire::SIMPLE_REPLY_BYTES);
  CHECK(read_all(crowd.all[0].sockets.client, replies.data(), replies.size()));
  client.join();
  for (int i = 0; i < 20; i++)
    crowd.ask_all();
  crowd.part();
}

TEST_CASE("replies that come later leave while their connection waits, however slow the client") {
  std::mutex mutex;
  std::deque<backend::Request *> taken;
  std::atomic<bool> takes{false};
  Crowd crowd(ThreadModel::async, [&](backend::Request &request) {
    if (!takes) {
      request.complete(0);
      return;
    }
    std::lock_guard lock(mutex);
    taken.push_back(&request);
  });
  crowd.settle();
  takes = true;
  constexpr int COUNT = 4;
  for (Running &running : crowd.all)
    for (int k = 0; k < COUNT; k++)
      REQUIRE(send_all(running.sockets.client,
                       encode_request(wire::NBD_CMD_READ, k, 0, static_cast<uint32_t>(SIZE))));
  CHECK(wait_for([&] {
    std::lock_guard lock(mutex);
    return taken.size() == MANY * COUNT;
  }));
  std::thread replier([&] {
    for (backend::Request *request : taken)
      request->complete(0);
  });
  std::vector<uint8_t> reply(wire::SIMPLE_REPLY_BYTES + SIZE);
  for (Running &running : crowd.all)
    for (int k = 0; k < COUNT; k++)
      CHECK(read_all(running.sockets.client, reply.data(), reply.size()));
  replier.join();
  crowd.part();
}

TEST_CASE("clients come, ask and leave in any order") {
  std::mt19937 random(20240607);
  std::deque<std::unique_ptr<Running>> here;
  int answered = 0;
  for (int step = 0; step < 4000; step++) {
    const size_t one = random() % (here.size() + 1);
    if (one == here.size() || here.size() < 12) {
      here.push_back(std::make_unique<Running>());
      here.back()->world.submit = answer;
      REQUIRE(here.back()->start(random() % 2 == 0 ? ThreadModel::parallel : ThreadModel::async));
    } else if (random() % 8 == 0) {
      if (random() % 2 == 0)
        here[one]->connection->abort();
      here[one]->sockets.close_client();
      CHECK(here[one]->wait_until_over());
      here.erase(here.begin() + static_cast<ptrdiff_t>(one));
    } else {
      const int count = 1 + static_cast<int>(random() % 40);
      REQUIRE(here[one]->send_reads(1, count));
      CHECK(here[one]->read_replies(count).size() == static_cast<size_t>(count));
      answered += count;
    }
  }
  CHECK(answered > 1000);
  for (auto &running : here) {
    running->sockets.close_client();
    CHECK(running->wait_until_over());
  }
}
