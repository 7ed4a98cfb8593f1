// Payloads of writes as they are received: in place, in pages, large, refused, or never whole.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <linux/net_tstamp.h>
#include <thread>
#include <vector>

#include "reading.hpp"

using namespace asyncnbd;
using namespace reading;

TEST_CASE("payloads of all sizes arrive whole while earlier ones are still in use") {
  const std::vector<size_t> sizes = {1,      4096,    65536, 131072, 131072, 262144, 300000,
                                     200000, 5000000, 7,     4096,   70000,  1};
  Reading reading;
  SUBCASE("in buffers") {}
  SUBCASE("where the backend has placed them") {
    reading.charging.reserves = true;
  }
  SUBCASE("in pages") {
    reading.charging.takes_pages = true;
  }
  std::thread client([&] {
    for (size_t i = 0; i < sizes.size(); i++)
      send_all(reading.sockets.client, write_request(i, 0, pattern(sizes[i], uint8_t(i))));
  });
  std::vector<PendingRequest *> requests;
  for (size_t size : sizes) {
    requests.push_back(reading.next());
    REQUIRE(requests.back() != nullptr);
    CHECK(requests.back()->length_bytes == size);
  }
  for (size_t i = 0; i < sizes.size(); i++) {
    CHECK(payload_of(requests[i]) == pattern(sizes[i], uint8_t(i)));
    reading.finish(requests[i]);
  }
  client.join();
  CHECK(reading.charging.taken.empty() == !reading.charging.reserves);
  CHECK(reading.charging.unreserved == 0);
}

TEST_CASE("a large payload stays in pages only if it comes in few pieces and none was received") {
  Reading reading;
  reading.charging.takes_pages = true;
  const auto payload = pattern(200000, 1);
  size_t piece_bytes = 0;
  SUBCASE("few") {
    piece_bytes = 50000;
  }
  SUBCASE("many") {
    piece_bytes = 100;
  }
  // Not before the header has been received: what comes with that is in the buffer.
  auto send_payload = [&] {
    for (size_t at = 0; at < payload.size(); at += piece_bytes)
      send_all(reading.sockets.client, payload.data() + at, piece_bytes);
  };
  REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_WRITE, 1, 0, 200000)));
  std::thread client([&] {
    reading.wait_until_read();
    send_payload();
    send_all(reading.sockets.client, encode_request(wire::NBD_CMD_FLUSH, 2, 0, 0));
  });
  PendingRequest *write = reading.next();
  REQUIRE(write != nullptr);
  CHECK((write->pages != nullptr) == (piece_bytes > 1000));
  PendingRequest *flush = reading.next();
  REQUIRE(flush != nullptr);
  CHECK(flush->type == wire::NBD_CMD_FLUSH);
  client.join();
  CHECK(payload_of(write) == payload);
  reading.finish(write);
  reading.finish(flush);
}

TEST_CASE("a client whose payload is not there yet gets its replies, and can be left") {
  for (Over over : {Over::unix_socket, Over::tcp}) {
    Reading reading(over);
    reading.charging.takes_pages = true;
    // The time when the reply is sent becomes a message on the socket, which is no input.
    const int times = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    setsockopt(reading.sockets.server, SOL_SOCKET, SO_TIMESTAMPING, &times, sizeof times);
    REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_FLUSH, 1, 0, 0)));
    PendingRequest *flush = reading.next();
    REQUIRE(flush != nullptr);
    memset(flush->reply, 1, wire::SIMPLE_REPLY_BYTES);
    reading.replies.push(flush);
    const auto payload = pattern(200000, 1);
    REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_WRITE, 2, 0, 200000)));
    std::thread client([&] {
      uint8_t reply[wire::SIMPLE_REPLY_BYTES];
      for (size_t at = 0; at < payload.size(); at += 100000) {
        if (at == 0)
          CHECK(recv(reading.sockets.client, reply, sizeof reply, MSG_WAITALL) == sizeof reply);
        else
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
        send_all(reading.sockets.client, payload.data() + at, 100000);
      }
      send_all(reading.sockets.client, encode_request(wire::NBD_CMD_WRITE, 3, 0, 200000));
      reading.stop = true;
    });
    PendingRequest *write = reading.next();
    REQUIRE(write != nullptr);
    CHECK(payload_of(write) == payload);
    client.join();
    CHECK(reading.next() == nullptr); // after a second of patience
    reading.finish(flush);
    reading.finish(write);
  }
}

TEST_CASE("out-of-band data does not end a payload") {
  for (bool in_pages : {false, true}) {
    Reading reading(Over::tcp);
    reading.charging.takes_pages = in_pages;
    const auto payload = pattern(200000, 1);
    REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_WRITE, 1, 0, 200000)));
    std::thread client([&] {
      reading.wait_until_read();
      send_all(reading.sockets.client, payload.data(), 100000);
      CHECK(send(reading.sockets.client, "!", 1, MSG_OOB) == 1);
      send_all(reading.sockets.client, payload.data() + 100000, 100000);
    });
    PendingRequest *write = reading.next();
    client.join();
    REQUIRE(write != nullptr);
    CHECK(payload_of(write) == payload);
    reading.finish(write);
  }
}

TEST_CASE("a client that stops in the middle of a payload keeps no pipe") {
  Reading reading;
  reading.charging.takes_pages = true;
  const auto payload = pattern(100000, 1);
  REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_WRITE, 1, 0, 100000)));
  std::thread client([&] {
    reading.wait_until_read();
    send_all(reading.sockets.client, payload.data(), 50000);
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    send_all(reading.sockets.client, payload.data() + 50000, 50000);
  });
  PendingRequest *write = reading.next();
  client.join();
  REQUIRE(write != nullptr);
  CHECK(!write->pages);
  CHECK(payload_of(write) == payload);
  reading.finish(write);
}

TEST_CASE("pages whose payload does not come are given back") {
  Reading reading;
  reading.charging.takes_pages = true;
  REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_WRITE, 1, 0, 200000)));
  std::thread client([&] {
    reading.wait_until_read();
    send_all(reading.sockets.client, pattern(150000, 1));
    reading.sockets.close_client();
  });
  CHECK(reading.next() == nullptr);
  client.join();
  CHECK(reading.charging.charged_bytes == 0);
  transport::PagePipe::Owner pipe =
      reading.resources.page_pipes.take(transport::PagePipe::For::sending);
  REQUIRE(pipe);
  CHECK(pipe->is_empty());
}

TEST_CASE("a large payload is whole, however much of it comes with its header") {
  for (const size_t payload_bytes : {270'400, 300'000, 400'000, 1'000'000}) {
    Reading reading;
    const std::vector<uint8_t> payload = pattern(payload_bytes, 1);
    REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_FLUSH, 1, 0, 0)));
    std::thread client([&] { send_all(reading.sockets.client, write_request(2, 0, payload)); });
    for (int i = 0; i < 2; i++) {
      PendingRequest *request = reading.next();
      REQUIRE(request != nullptr);
      CHECK(request->error == 0);
      if (request->type == wire::NBD_CMD_WRITE)
        CHECK(memcmp(request->data, payload.data(), payload.size()) == 0);
      reading.finish(request);
    }
    client.join();
    CHECK(reading.charging.charged_bytes == 0);
  }
}

TEST_CASE("a large payload is charged little more than what has come") {
  Reading reading;
  constexpr uint32_t LENGTH = 32 << 20;
  const std::vector<uint8_t> part = pattern(1 << 20, 1);
  REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_WRITE, 1, 0, LENGTH)));
  std::thread client([&] {
    send_all(reading.sockets.client, part);
    reading.sockets.close_client();
  });
  CHECK(reading.next() == nullptr);
  client.join();
  CHECK(reading.charging.most_charged_bytes >= part.size());
  CHECK(reading.charging.most_charged_bytes < 2 * part.size());
  CHECK(reading.charging.charged_bytes == 0);
}

TEST_CASE("the backend's memory for a write is charged when the payload has come") {
  Reading reading;
  reading.charging.besides = 1 << 20;
  REQUIRE(send_all(reading.sockets.client, write_request(1, 0, pattern(4096, 1))));
  PendingRequest *request = reading.next();
  REQUIRE(request != nullptr);
  CHECK(reading.charging.charged_bytes > 1 << 20);
  reading.finish(request);
  CHECK(reading.charging.charged_bytes == 0);
}

TEST_CASE("a payload that is received in place of the backend's copy is charged once") {
  Reading reading;
  reading.charging.reserves = reading.charging.spares_copy = true;
  // The first one is too large to come along with its header; then the next is not tried.
  for (const size_t bytes : {size_t{3} << 20, size_t{100} << 10, size_t{256} << 10}) {
    reading.charging.besides = static_cast<uint32_t>(bytes) + 1000; // a copy, and more
    std::thread client(
        [&] { send_all(reading.sockets.client, write_request(1, 0, pattern(bytes, 1))); });
    PendingRequest *request = reading.next();
    client.join();
    REQUIRE(request != nullptr);
    CHECK(request->is_reserved);
    CHECK(reading.charging.charged_bytes == bytes + 1000 + nbd::MemoryAccount::REQUEST_BYTES);
    CHECK(request->charge.bytes() == request->charge.full_bytes);
    reading.finish(request);
    CHECK(reading.charging.charged_bytes == 0);
  }
}

TEST_CASE("a reservation whose payload does not come is given back") {
  Reading reading;
  reading.charging.reserves = true;
  auto bytes = write_request(1, 0, pattern(200000, 1));
  bytes.resize(150000);
  std::thread client([&] {
    send_all(reading.sockets.client, bytes.data(), bytes.size());
    reading.sockets.close_client();
  });
  CHECK(reading.next() == nullptr);
  client.join();
  REQUIRE(reading.charging.taken.size() == 1);
  CHECK(reading.charging.unreserved == 1);
  CHECK(reading.charging.charged_bytes == 0);
}

TEST_CASE("replies leave before another payload is received, and between its parts") {
  constexpr size_t REPLY = wire::SIMPLE_REPLY_BYTES;
  constexpr uint32_t LARGE = 64 << 10;
  Reading reading;
  reading.charging.reserves = true;
  auto send = [&](const std::vector<uint8_t> &bytes) { send_all(reading.sockets.client, bytes); };
  std::vector<PendingRequest *> requests;
  auto next = [&] {
    requests.push_back(reading.next());
    REQUIRE(requests.back() != nullptr);
    requests.back()->reply[0] = static_cast<uint8_t>(requests.size());
    reading.replies.push(requests.back());
  };
  auto arrived = [&](size_t bytes) {
    std::vector<uint8_t> replies(bytes);
    const ssize_t there = recv(reading.sockets.client, replies.data(), bytes, MSG_DONTWAIT);
    return there == -1 ? 0 : static_cast<size_t>(there);
  };
  // The end of a payload comes together with the next header, so that nothing is left to look for.
  auto send_payload = [&](size_t bytes, const std::vector<uint8_t> &next_header) {
    const auto payload = pattern(bytes, 1);
    send({payload.begin(), payload.end() - 1});
    send(joined({payload.back()}, next_header));
  };
  auto write_header = [](uint32_t bytes) {
    return encode_request(wire::NBD_CMD_WRITE, 1, 0, bytes);
  };
  std::thread client([&] { // from the first on, which no buffer takes, payloads are placed
    send(write_header(300000));
    send_payload(300000, encode_request(wire::NBD_CMD_FLUSH, 2, 0, 0));
  });
  next();
  next();
  client.join();
  send(write_header(LARGE));
  send_payload(LARGE, write_header(LARGE));
  next(); // of which it has had to receive the header
  CHECK(arrived(3 * REPLY) == 2 * REPLY);
  send_payload(LARGE, write_header(LARGE));
  next();
  CHECK(arrived(2 * REPLY) == REPLY);
  send_payload(LARGE, write_header(66000));
  next();
  CHECK(arrived(2 * REPLY) == REPLY);

  const auto torn = pattern(66000, 4);
  send({torn.begin(), torn.end() - 1});
  std::thread slow_client([&] {
    uint8_t reply[REPLY];
    CHECK(recv(reading.sockets.client, reply, REPLY, MSG_WAITALL) == REPLY);
    send({torn.back()});
  });
  next();
  slow_client.join();
  for (PendingRequest *request : requests)
    reading.finish(request);
}

TEST_CASE("a refused write's payload is skipped") {
  Reading reading;
  std::thread client([&] {
    send_all(reading.sockets.client, write_request(1, SIZE, pattern(1000000, 1)));
    send_all(reading.sockets.client, encode_request(wire::NBD_CMD_READ, 2, 0, 512));
  });
  PendingRequest *write = reading.next();
  REQUIRE(write != nullptr);
  CHECK(write->error == ENOSPC);
  PendingRequest *read = reading.next();
  REQUIRE(read != nullptr);
  CHECK(read->error == 0);
  CHECK(read->length_bytes == 512);
  reading.finish(write);
  reading.finish(read);
  client.join();
}
