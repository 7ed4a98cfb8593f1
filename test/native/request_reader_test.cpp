// Requests from bytes, however they are cut: their order, their memory, and every end.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "reading.hpp"

using namespace asyncnbd;
using namespace reading;

TEST_CASE("requests are the same wherever the stream is cut") {
  const std::vector<uint8_t> payload = pattern(100, 3);
  const auto bytes =
      joined(write_request(1, 4096, payload), encode_request(wire::NBD_CMD_FLUSH, 2, 0, 0));
  for (size_t cut = 1; cut < bytes.size(); cut++) {
    Reading reading;
    std::thread client([&] {
      send_all(reading.sockets.client, bytes.data(), cut);
      std::this_thread::yield();
      send_all(reading.sockets.client, bytes.data() + cut, bytes.size() - cut);
    });
    PendingRequest *write = reading.next();
    REQUIRE(write != nullptr);
    CHECK(write->error == 0);
    CHECK(write->offset == 4096);
    CHECK(memcmp(write->data, payload.data(), payload.size()) == 0);
    PendingRequest *second = reading.next();
    REQUIRE(second != nullptr);
    CHECK(second->type == wire::NBD_CMD_FLUSH);
    client.join();
    reading.finish(write);
    reading.finish(second);
  }
}

TEST_CASE("reading ends at NBD_CMD_DISC, at the end, in mid-request and at a wrong magic number") {
  auto half = write_request(1, 0, pattern(5000, 1));
  half.resize(3000);
  auto wrong = encode_request(wire::NBD_CMD_READ, 1, 0, 512);
  wrong[0] ^= 0x80;
  const std::vector<std::vector<uint8_t>> ends = {
      encode_request(wire::NBD_CMD_DISC, 1, 0, 0), {}, half, wrong, {1, 2, 3}};
  for (const std::vector<uint8_t> &bytes : ends) {
    Reading reading;
    REQUIRE(send_all(reading.sockets.client, bytes));
    reading.sockets.close_client();
    CHECK(reading.next() == nullptr);
  }
}

TEST_CASE("replies to small reads are adjacent in memory") {
  Reading reading;
  for (int i = 0; i < 3; i++)
    REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_READ, i, 0, 4096)));
  PendingRequest *requests[3];
  for (PendingRequest *&request : requests)
    request = reading.next();
  for (int i = 0; i < 2; i++)
    CHECK(requests[i]->reply + wire::SIMPLE_REPLY_BYTES + 4096 == requests[i + 1]->reply);
  for (PendingRequest *request : requests)
    reading.finish(request);
}

TEST_CASE("a buffer that moves to another client's reader shows nothing of the first client") {
  constexpr uint8_t OTHERS =
      0xff; // in what the first client sends, and not in what the second does
  constexpr uint32_t READ_BYTES = 255 << 10;
  auto request = [](Reading &reading, const std::vector<uint8_t> &bytes) {
    REQUIRE(send_all(reading.sockets.client, bytes));
    PendingRequest *request = reading.next();
    REQUIRE(request != nullptr);
    REQUIRE(request->error == 0);
    return request;
  };
  auto leave = [](Reading &reading, std::vector<PendingRequest *> requests) {
    for (PendingRequest *request : requests) {
      memset(request->reply, OTHERS, wire::SIMPLE_REPLY_BYTES);
      reading.finish(request);
    }
    reading.waiting.elsewhere = true;
    CHECK(reading.next() == nullptr);
    CHECK(reading.intake.has_to_wait());
    reading.reader.fill_thread_cache();
    reading.requests.fill_thread_cache();
  };

  Reading first;
  std::vector<PendingRequest *> held;
  for (int i = 0; i < 3; i++) // all of its input buffer, and some of that for replies
    held.push_back(request(first, write_request(0, 0, std::vector<uint8_t>(86 << 10, OTHERS))));
  leave(first, held);

  // The second one's requests fill most of the same buffers, until it takes others; then these are
  // among those that reads may be put into.
  Reading second;
  second.reader.use_thread_cache();
  second.requests.use_thread_cache();
  held.clear();
  const uint8_t *taken = nullptr;
  for (int i = 0; i < 12; i++) {
    held.push_back(request(second, write_request(0, 0, std::vector<uint8_t>(30 << 10, 1))));
    if (taken == nullptr)
      taken = held[0]->data;
  }
  CHECK(taken[(250 << 10)] == OTHERS);
  for (PendingRequest *write : held)
    second.finish(write);
  for (int i = 0; i < 4; i++) {
    PendingRequest *read = request(second, encode_request(wire::NBD_CMD_READ, 0, 0, READ_BYTES));
    CHECK(std::find(read->data, read->data + READ_BYTES, OTHERS) == read->data + READ_BYTES);
    held[static_cast<size_t>(i)] = read;
  }
  for (int i = 0; i < 4; i++)
    second.finish(held[static_cast<size_t>(i)]);
}

TEST_CASE("a reader without input releases memory each second while requests are in flight") {
  Reading reading;
  reading.waiting.seconds_without_input = 4;
  reading.waiting.seconds_in_flight = 3;
  reading.waiting.then = [&reading] {
    send_all(reading.sockets.client, encode_request(wire::NBD_CMD_READ, 1, 0, 8));
  };
  PendingRequest *request = reading.next();
  REQUIRE(request != nullptr);
  CHECK(reading.waiting.idled == 4);
  CHECK(reading.waiting.waits_ms == std::vector<int>{1000, 1000, 1000, 1000, -1});
  reading.finish(request);
}

TEST_CASE("a request that finds no memory comes when there is some, whole") {
  Reading reading;
  reading.charging.is_open = false;
  const std::vector<uint8_t> payload = pattern(1 << 20, 5);
  std::thread client([&] {
    send_all(reading.sockets.client, write_request(1, 0, payload));
    reading.sockets.close_client();
  });
  PendingRequest *none = nullptr;
  auto needs = [&] { return reading.reader.next(&none); };
  while (needs() == nbd::RequestReader::Outcome::needs_input)
    reading.reader.receive();
  CHECK(needs() == nbd::RequestReader::Outcome::needs_memory);
  CHECK(!reading.reader.admits());
  reading.waiting.on_wait_for_memory = [&reading] {
    reading.charging.is_open = true;
    return reading.reader.admits();
  };
  PendingRequest *write = reading.next();
  REQUIRE(write != nullptr);
  CHECK(reading.waiting.waits_for_memory == 1);
  CHECK(payload_of(write) == payload);
  CHECK(reading.next() == nullptr);
  client.join();
  reading.finish(write);
  CHECK(reading.charging.charged_bytes == 0);
}

TEST_CASE("a request for which there will be no memory is dropped, with what it has") {
  Reading reading;
  reading.charging.reserves = true;
  reading.charging.besides = 1000;
  std::thread client(
      [&] { send_all(reading.sockets.client, write_request(1, 0, pattern(1 << 20, 5))); });
  PendingRequest *none = nullptr;
  // The memory that the backend needs when all has come is what is not there.
  while (reading.reader.next(&none) == nbd::RequestReader::Outcome::needs_input) {
    reading.reader.receive();
    reading.charging.is_open = reading.charging.taken.empty();
  }
  client.join();
  CHECK(reading.charging.unreserved == 0);
  CHECK(reading.next() == nullptr);
  CHECK(reading.waiting.waits_for_memory == 1);
  CHECK(reading.charging.unreserved == 1);
  CHECK(reading.charging.charged_bytes == 0);
}
