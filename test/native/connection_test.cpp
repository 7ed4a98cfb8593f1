// A connection's life on a backend made for each case: order, overlap, late answers, the end.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <sys/mman.h>
#include <thread>

#include "running_connection.hpp"

using namespace asyncnbd;

TEST_CASE("a serial backend gets one request at a time and answers in order") {
  Running running;
  std::atomic<int> inside{0};
  running.world.submit = [&](backend::Request &request) {
    CHECK(++inside == 1);
    --inside;
    request.complete(0);
  };
  REQUIRE(running.start(ThreadModel::serialize_requests));
  REQUIRE(running.send_reads(0, 1000));
  std::vector<uint64_t> cookies = running.read_replies(1000);
  REQUIRE(cookies.size() == 1000);
  CHECK(std::is_sorted(cookies.begin(), cookies.end()));
  running.sockets.close_client();
  CHECK(running.wait_until_over());
  CHECK(running.world.closed == 1);
}

TEST_CASE("blocked calls of a parallel backend overlap up to the limit and no further") {
  Running running;
  bool open = false;
  running.world.submit = [&](backend::Request &request) {
    running.block(request, [&] { return open; });
  };
  REQUIRE(running.start(ThreadModel::parallel, 5));
  REQUIRE(running.send_reads(0, 20));
  REQUIRE(running.world.gate.wait([&] { return running.world.inside == 5; }));
  running.world.gate.change([&] { open = true; });
  std::vector<uint64_t> cookies = running.read_replies(20);
  CHECK(std::set<uint64_t>(cookies.begin(), cookies.end()).size() == 20);
  CHECK(running.world.most_inside == 5);
  running.sockets.close_client();
  CHECK(running.wait_until_over());
}

TEST_CASE("a blocked call does not delay a quick one behind it") {
  Running running;
  bool open = false;
  std::atomic<bool> is_first{true};
  running.world.submit = [&](backend::Request &request) {
    if (is_first.exchange(false))
      running.block(request, [&] { return open; });
    else
      request.complete(0);
  };
  REQUIRE(running.start(ThreadModel::parallel));
  REQUIRE(running.send_reads(1, 50));
  std::vector<uint64_t> quick = running.read_replies(49);
  REQUIRE(quick.size() == 49);
  CHECK(std::find(quick.begin(), quick.end(), 1) == quick.end());
  running.world.gate.change([&] { open = true; });
  CHECK(running.read_replies(1) == std::vector<uint64_t>{1});
  running.sockets.close_client();
  CHECK(running.wait_until_over());
}

TEST_CASE("a request may be completed by another thread after submit has returned") {
  Running running;
  std::vector<backend::Request *> taken;
  running.world.submit = [&](backend::Request &request) {
    running.world.gate.change([&] { taken.push_back(&request); });
  };
  REQUIRE(running.start(ThreadModel::parallel));
  REQUIRE(running.send_reads(0, 300));
  REQUIRE(running.world.gate.wait([&] { return taken.size() == 300; }));
  std::vector<std::thread> repliers;
  for (int part = 0; part < 3; part++)
    repliers.emplace_back([&, part] {
      for (int i = part; i < 300; i += 3) {
        memset(taken[i]->data, 7, taken[i]->length_bytes);
        running.world.gate.change([&] { running.world.completed++; });
        taken[i]->complete(0);
      }
    });
  std::vector<uint64_t> cookies = running.read_replies(300);
  for (std::thread &replier : repliers)
    replier.join();
  CHECK(std::set<uint64_t>(cookies.begin(), cookies.end()).size() == 300);
  running.sockets.close_client();
  CHECK(running.wait_until_over());
  CHECK(running.world.completed_at_close == 300);
}

TEST_CASE("the backend is closed once, after the last answer, though the client has gone") {
  Running running;
  bool open = false;
  running.world.submit = [&](backend::Request &request) {
    running.block(request, [&] { return open; });
  };
  REQUIRE(running.start(ThreadModel::parallel));
  REQUIRE(running.send_reads(0, 10));
  REQUIRE(running.world.gate.wait([&] { return running.world.inside == 10; }));
  running.sockets.close_client();
  running.connection->abort();
  CHECK(running.world.closed == 0);
  running.world.gate.change([&] { open = true; });
  CHECK(running.wait_until_over());
  CHECK(running.world.closed == 1);
  CHECK(running.world.completed_at_close == 10);
}

TEST_CASE("a stopping server answers what has arrived, then closes") {
  Running running;
  bool open = false;
  running.world.submit = [&](backend::Request &request) {
    running.block(request, [&] { return open; });
  };
  REQUIRE(running.start(ThreadModel::serialize_requests));
  REQUIRE(running.send_reads(0, 10));
  REQUIRE(running.world.gate.wait([&] { return running.world.inside == 1; }));
  running.connection->stop();
  running.server->announce_stop();
  running.world.gate.change([&] { open = true; });
  CHECK(running.read_replies(10).size() == 10);
  uint8_t byte;
  CHECK(recv(running.sockets.client, &byte, 1, 0) == 0);
  CHECK(running.wait_until_over());
}

TEST_CASE("after a soft disconnect further commands get ESHUTDOWN") {
  Running running;
  running.world.submit = [&](backend::Request &request) {
    running.client->disconnect(false);
    request.complete(0);
  };
  REQUIRE(running.start(ThreadModel::serialize_requests));
  REQUIRE(running.send_reads(0, 2));
  CHECK(running.read_replies(1).size() == 1);
  Reply reply;
  REQUIRE(read_reply(running.sockets.client, &reply));
  CHECK(reply.error == wire::NBD_ESHUTDOWN);
  running.sockets.close_client();
  CHECK(running.wait_until_over());
}

TEST_CASE("after a forced disconnect nothing more is sent") {
  Running running;
  running.world.submit = [&](backend::Request &request) {
    running.client->disconnect(true);
    request.complete(0);
  };
  REQUIRE(running.start(ThreadModel::parallel));
  REQUIRE(running.send_reads(0, 1));
  uint8_t byte;
  CHECK(recv(running.sockets.client, &byte, 1, 0) <= 0);
  CHECK(running.wait_until_over());
}

TEST_CASE("for a client that reads no replies the server stops reading and does not grow") {
  constexpr int COUNT = 2000;
  Running running;
  backend::Request *first = nullptr;
  running.world.submit = [&](backend::Request &request) {
    bool is_first = false; // addresses say nothing: requests are used again
    running.world.gate.change([&] {
      is_first = running.world.inside++ == 0;
      if (is_first)
        first = &request;
    });
    if (!is_first)
      request.complete(0);
  };
  REQUIRE(running.start(ThreadModel::parallel));
  const auto read = encode_request(wire::NBD_CMD_READ, 0, 0, SIZE);
  REQUIRE(send_all(running.sockets.client, read));
  REQUIRE(running.world.gate.wait([&] { return first != nullptr; }));
  // This thread holds the send right from here on, and the client does not read.
  std::thread replier([&] { first->complete(0); });
  std::thread client([&] {
    for (int i = 1; i < COUNT; i++)
      send_all(running.sockets.client, read);
  });
  uint8_t byte;
  REQUIRE(recv(running.sockets.client, &byte, 1, MSG_PEEK) == 1); // the replier is at work
  CHECK_FALSE(running.world.gate.wait([&] { return running.world.inside > 64; },
                                      std::chrono::milliseconds(300)));
  std::vector<uint8_t> reply(wire::SIMPLE_REPLY_BYTES + SIZE);
  for (int i = 0; i < COUNT; i++)
    REQUIRE(read_all(running.sockets.client, reply.data(), reply.size()));
  replier.join();
  client.join();
  running.sockets.close_client();
  CHECK(running.wait_until_over());
}

TEST_CASE("replies that are ready do not wait for a slow call behind them") {
  Running running;
  bool open = false;
  int calls = 0;
  running.world.submit = [&](backend::Request &request) {
    if (++calls == 6)
      running.block(request, [&] { return open; });
    else
      request.complete(0);
  };
  REQUIRE(running.start(ThreadModel::serialize_requests));
  REQUIRE(running.send_reads(0, 8));
  CHECK(running.read_replies(5).size() == 5);
  running.world.gate.change([&] { open = true; });
  CHECK(running.read_replies(3).size() == 3);
  running.sockets.close_client();
  CHECK(running.wait_until_over());
}

TEST_CASE("a write whose place has no memory fails alone, and the rest of its payload is skipped") {
  constexpr size_t BYTES = 512 << 10; // more than comes along with a header
  Running running;
  void *nowhere =
      mmap(nullptr, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(nowhere != MAP_FAILED);
  int reserved = 0;
  running.world.reserve = [&](backend::Request &request) {
    if (request.type != wire::NBD_CMD_WRITE)
      return backend::Reservation{};
    reserved++;
    return backend::Reservation{.data = static_cast<uint8_t *>(nowhere), .is_file = true};
  };
  running.world.submit = [&](backend::Request &request) {
    CHECK_FALSE(request.is_reserved);
    request.complete(0);
  };
  REQUIRE(running.start(ThreadModel::parallel));
  // What comes along with a header would have to be copied: so the first is received elsewhere, and
  // each that follows one of which the rest was skipped.
  constexpr uint64_t WRITES = 4;
  std::vector<uint8_t> payload(BYTES, 7);
  std::thread client([&] {
    for (uint64_t cookie = 0; cookie < WRITES; cookie++) {
      std::vector<uint8_t> bytes = encode_request(wire::NBD_CMD_WRITE, cookie, 0, BYTES);
      bytes.insert(bytes.end(), payload.begin(), payload.end());
      send_all(running.sockets.client, bytes);
    }
    running.send_reads(WRITES, 1);
  });
  for (uint64_t cookie = 0; cookie < WRITES; cookie++) {
    Reply reply;
    REQUIRE(read_reply(running.sockets.client, &reply));
    CHECK(reply.cookie == cookie);
    CHECK(reply.error == (cookie % 2 == 0 ? 0 : wire::NBD_EIO));
  }
  CHECK(running.read_replies(1) == std::vector<uint64_t>{WRITES});
  client.join();
  CHECK(reserved == WRITES);
  CHECK(running.world.unreserved == WRITES);
  running.sockets.close_client();
  CHECK(running.wait_until_over());
  munmap(nowhere, BYTES);
}

TEST_CASE("a connection lives until its last completion returns") {
  auto running = std::make_unique<Running>();
  backend::Request *taken = nullptr;
  running->world.submit = [&](backend::Request &request) {
    running->world.gate.change([&] { taken = &request; });
  };
  REQUIRE(running->start(ThreadModel::parallel));
  REQUIRE(running->send_reads(0, 1));
  REQUIRE(send_all(running->sockets.client, encode_request(wire::NBD_CMD_DISC, 1, 0, 0)));
  REQUIRE(running->world.gate.wait([&] { return taken != nullptr; }));
  running->connection.reset();
  taken->complete(0);
  CHECK(running->read_replies(1).size() == 1);
  CHECK(running->wait_until_over());
}
