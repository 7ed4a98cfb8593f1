// Replies of many threads in one stream: none lost, none twice, none torn.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <set>
#include <thread>

#include "connection/reply_queue.hpp"
#include "support.hpp"

using namespace asyncnbd;
using connection::PendingRequest;
using connection::WhenFull;

namespace {

struct Sending final : connection::ReplyListener {
  SocketPair sockets;
  transport::Transport transport{sockets.server, sockets.server, -1};
  connection::ReplyQueue queue{transport, *this};
  std::atomic<uint32_t> sent{0};

  std::atomic<uint32_t> full{0};

  void on_sent(PendingRequest *first, uint32_t count) override {
    uint32_t counted = 0;
    for (; first != nullptr; first = first->next)
      counted++;
    CHECK(counted == count);
    sent += count;
  }
  void on_full() override { full++; }
};

// A request with its own memory for the reply.
struct OwnRequest : PendingRequest {
  uint8_t memory[64];
  explicit OwnRequest(uint64_t number, bool reads) {
    reset();
    type = reads ? wire::NBD_CMD_READ : wire::NBD_CMD_FLUSH;
    length_bytes = reads ? 8 : 0;
    cookie = htobe64(number);
    reply = memory;
    data = memory + wire::SIMPLE_REPLY_BYTES;
    memcpy(data, &number, sizeof number);
  }
};

// A read of 1 MiB, whose data lies elsewhere.
struct LargeRequest : OwnRequest {
  std::vector<uint8_t> room;
  explicit LargeRequest(uint64_t number)
      : OwnRequest(number, true), room(wire::SIMPLE_REPLY_BYTES + (1 << 20)) {
    length_bytes = 1 << 20;
    reply = room.data();
    data = reply + wire::SIMPLE_REPLY_BYTES;
  }
};

std::vector<uint8_t> bytes_of(uint8_t value) {
  return std::vector<uint8_t>(1 << 20, value);
}

} // namespace

TEST_CASE("replies leave in the order in which they were pushed") {
  Sending sending;
  std::deque<OwnRequest> requests;
  for (uint64_t i = 0; i < 1000; i++)
    sending.queue.push(&requests.emplace_back(i, false));
  CHECK(sending.queue.pending_bytes() == 16000);
  sending.queue.flush(WhenFull::wait);
  CHECK(sending.queue.pending_bytes() == 0);
  for (uint64_t i = 0; i < 1000; i++) {
    Reply reply;
    REQUIRE(read_reply(sending.sockets.client, &reply));
    CHECK(reply.cookie == i);
  }
  CHECK(sending.sent == 1000);
}

TEST_CASE("structured replies of each kind leave as one stream, however little is sent at once") {
  Sending sending;
  std::deque<OwnRequest> requests;
  const std::string words(3000, 'w');
  const std::string extents(wire::EXTENT_BYTES * 500, 'e');
  for (uint64_t i = 0; i < 40; i++) {
    OwnRequest &request = requests.emplace_back(i, i % 4 == 0);
    request.is_structured = true;
    request.data = request.memory + 32;
    request.reply = request.data - wire::OFFSET_DATA_BYTES;
    if (i % 4 == 1)
      request.type = wire::NBD_CMD_BLOCK_STATUS;
    if (i % 4 == 1)
      request.tail = extents;
    if (i % 4 == 2) {
      request.error = EIO;
      request.tail = words;
    }
    sending.queue.push(&request);
  }
  std::thread sender([&] { sending.queue.flush(WhenFull::wait); });
  for (uint64_t i = 0; i < 40; i++) {
    uint8_t header[wire::OFFSET_DATA_BYTES];
    const size_t header_bytes[] = {wire::OFFSET_DATA_BYTES, wire::BLOCK_STATUS_BYTES,
                                   wire::ERROR_BYTES, wire::SIMPLE_REPLY_BYTES};
    REQUIRE(read_all(sending.sockets.client, header, header_bytes[i % 4]));
    CHECK(header[3] == (i % 4 == 3 ? 0x98 : 0xef));
    std::string tail(i % 4 == 0   ? 8
                     : i % 4 == 1 ? extents.size()
                     : i % 4 == 2 ? words.size()
                                  : 0,
                     ' ');
    if (!tail.empty()) // it would wait for more
      REQUIRE(read_all(sending.sockets.client, tail.data(), tail.size()));
    if (i % 4 == 1)
      CHECK(tail == extents);
    if (i % 4 == 2)
      CHECK(tail == words);
  }
  sender.join();
  CHECK(sending.queue.pending_bytes() == 0);
  CHECK(sending.sent == 40);
}

TEST_CASE("replies of many threads arrive once each, with their own data") {
  constexpr uint64_t THREADS = 8;
  constexpr uint64_t EACH = 5000;
  Sending sending;
  std::vector<std::deque<OwnRequest>> requests(THREADS);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < THREADS; t++)
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < EACH; i++) {
        sending.queue.push(&requests[t].emplace_back(t * EACH + i, true));
        sending.queue.flush(WhenFull::wait);
      }
    });
  std::set<uint64_t> cookies;
  for (uint64_t i = 0; i < THREADS * EACH; i++) {
    Reply reply;
    uint64_t data = 0;
    REQUIRE(read_reply(sending.sockets.client, &reply));
    REQUIRE(read_all(sending.sockets.client, &data, sizeof data));
    REQUIRE(data == reply.cookie);
    cookies.insert(reply.cookie);
  }
  for (std::thread &thread : threads)
    thread.join();
  CHECK(cookies.size() == THREADS * EACH);
  CHECK(sending.sent == THREADS * EACH);
}

TEST_CASE("replies to a client that has gone are dropped, and all are accounted for") {
  Sending sending;
  sending.sockets.close_client();
  std::deque<OwnRequest> requests;
  for (uint64_t i = 0; i < 100; i++) {
    sending.queue.push(&requests.emplace_back(i, true));
    sending.queue.flush(WhenFull::wait);
  }
  CHECK(sending.sent == 100);
}

TEST_CASE("a thread that may not block leaves what a full socket does not take, for one that may") {
  constexpr uint64_t COUNT = 20;
  Sending sending;
  std::deque<LargeRequest> requests;
  for (uint64_t i = 0; i < COUNT; i++) {
    LargeRequest &request = requests.emplace_back(i);
    memset(request.data, static_cast<int>(i), request.length_bytes);
    sending.queue.push(&request);
    sending.queue.flush(WhenFull::pass_on);
  }
  CHECK(sending.full == 1); // and did not try again and again
  CHECK(sending.sent < COUNT);
  std::thread sender([&] { sending.queue.flush(WhenFull::wait); });
  for (uint64_t i = 0; i < COUNT; i++) {
    Reply reply;
    std::vector<uint8_t> data(1 << 20);
    REQUIRE(read_reply(sending.sockets.client, &reply));
    CHECK(reply.cookie == i);
    REQUIRE(read_all(sending.sockets.client, data.data(), data.size()));
    CHECK(data == bytes_of(static_cast<uint8_t>(i)));
  }
  sender.join();
  CHECK(sending.sent == COUNT);
  CHECK(sending.queue.pending_bytes() == 0);
}

TEST_CASE("who has other things to do sends for one turn, though the client keeps up") {
  constexpr uint64_t COUNT = 8;
  Sending sending;
  std::deque<LargeRequest> requests;
  for (uint64_t i = 0; i < COUNT; i++)
    sending.queue.push(&requests.emplace_back(i));
  std::atomic<bool> is_over{false};
  std::thread client([&] {
    std::vector<uint8_t> data(COUNT * (wire::SIMPLE_REPLY_BYTES + (1 << 20)));
    CHECK(read_all(sending.sockets.client, data.data(), data.size()));
    is_over = true;
  });
  int turns = 0;
  for (; !is_over || sending.queue.is_full(); turns++)
    sending.queue.flush(WhenFull::come_back);
  client.join();
  CHECK(turns > static_cast<int>(COUNT));
  CHECK(sending.full == 0);
  CHECK(sending.sent == COUNT);
}

TEST_CASE("borrowed data is sent or copied before send_borrowed returns") {
  constexpr uint64_t COUNT = 8;
  Sending sending;
  std::deque<LargeRequest> requests;
  std::vector<uint8_t> borrowed;
  std::thread replier([&] {
    for (uint64_t i = 0; i < COUNT; i++) {
      borrowed = bytes_of(static_cast<uint8_t>(i + 1));
      LargeRequest &request = requests.emplace_back(i);
      if (!sending.queue.send_borrowed(&request, borrowed.data())) {
        memcpy(request.data, borrowed.data(), borrowed.size());
        sending.queue.push(&request);
      }
      borrowed = bytes_of(0xee);
    }
  });
  replier.join();
  CHECK(sending.full >= 1);
  std::thread sender([&] { sending.queue.flush(WhenFull::wait); });
  for (uint64_t i = 0; i < COUNT; i++) {
    Reply reply;
    std::vector<uint8_t> data(1 << 20);
    REQUIRE(read_reply(sending.sockets.client, &reply));
    REQUIRE(read_all(sending.sockets.client, data.data(), data.size()));
    CHECK(data == bytes_of(static_cast<uint8_t>(reply.cookie + 1)));
  }
  sender.join();
  CHECK(sending.sent == COUNT);
}

TEST_CASE("lent data follows its header") {
  Sending sending;
  const std::vector<uint8_t> lent = bytes_of(9);
  LargeRequest request(5);
  request.lent = {lent.data(), nullptr, nullptr};
  OwnRequest after(6, true);
  sending.queue.push(&request);
  sending.queue.push(&after);
  std::thread sender([&] { sending.queue.flush(WhenFull::wait); });
  Reply reply;
  std::vector<uint8_t> data(1 << 20);
  REQUIRE(read_reply(sending.sockets.client, &reply));
  REQUIRE(read_all(sending.sockets.client, data.data(), data.size()));
  CHECK(data == lent);
  uint64_t number;
  REQUIRE(read_reply(sending.sockets.client, &reply));
  REQUIRE(read_all(sending.sockets.client, &number, sizeof number));
  CHECK(number == 6);
  sender.join();
}
