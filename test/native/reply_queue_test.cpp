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

namespace {

struct Sending final : connection::SentListener {
  SocketPair sockets;
  transport::Transport transport{sockets.server, sockets.server, -1};
  connection::ReplyQueue queue{transport, *this};
  std::atomic<uint32_t> sent{0};

  void on_sent(PendingRequest *first, PendingRequest *last, uint32_t count) override {
    uint32_t counted = 1;
    for (; first != last; first = first->next)
      counted++;
    CHECK(counted == count);
    sent += count;
  }
};

// A request with its own memory for the reply.
struct OwnRequest : PendingRequest {
  uint8_t memory[64];
  explicit OwnRequest(uint64_t number, bool reads) : PendingRequest{} {
    type = reads ? wire::NBD_CMD_READ : wire::NBD_CMD_FLUSH;
    length_bytes = reads ? 8 : 0;
    cookie = htobe64(number);
    reply = memory;
    memcpy(memory + wire::SIMPLE_REPLY_BYTES, &number, sizeof number);
  }
};

} // namespace

TEST_CASE("replies leave in the order in which they were pushed") {
  Sending sending;
  std::deque<OwnRequest> requests;
  for (uint64_t i = 0; i < 1000; i++)
    sending.queue.push(&requests.emplace_back(i, false));
  CHECK(sending.queue.pending_bytes() == 16000);
  sending.queue.flush();
  CHECK(sending.queue.pending_bytes() == 0);
  for (uint64_t i = 0; i < 1000; i++) {
    Reply reply;
    REQUIRE(read_reply(sending.sockets.client, &reply));
    CHECK(reply.cookie == i);
  }
  CHECK(sending.sent == 1000);
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
        sending.queue.flush();
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
    sending.queue.flush();
  }
  CHECK(sending.sent == 100);
}
