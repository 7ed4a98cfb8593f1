// Requests from bytes, however they are cut: payloads in place, large, refused; every end.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <thread>

#include "nbd/intake.hpp"
#include "support.hpp"
#include "system_resources.hpp"

using namespace asyncnbd;
using nbd::PendingRequest;

namespace {

constexpr uint64_t SIZE = UINT64_C(1) << 32;
constexpr uint16_t FLAGS = wire::NBD_FLAG_HAS_FLAGS | wire::NBD_FLAG_SEND_FLUSH;

class NoMaker final : public backend::Maker {
  void complete(backend::Request &, int) override {}
  void give_up(backend::Request &, int) override {}
  void release(backend::Request &) override {}
  bool client_has_gone() const override { return false; }
};

struct Charging final : nbd::Admission {
  uint64_t charged_bytes = 0;
  uint64_t most_charged_bytes = 0;
  uint32_t besides = 0;
  bool is_open = true;
  bool admit(nbd::MemoryCharge &charge, uint64_t bytes) override {
    charged_bytes += is_open ? bytes : 0;
    charge.shared_bytes += is_open ? bytes : 0;
    most_charged_bytes = std::max(most_charged_bytes, charged_bytes);
    return is_open;
  }
  void withdraw(const nbd::MemoryCharge &charge) override { charged_bytes -= charge.bytes(); }
  backend::Reservation reserve(backend::Request &request) override {
    if (!reserves || request.type != wire::NBD_CMD_WRITE)
      return {nullptr, takes_pages};
    taken.emplace_back(request.length_bytes);
    return {taken.back().data(), takes_pages, spares_copy};
  }
  void unreserve(backend::Request &) override { unreserved++; }
  uint32_t bytes_besides(uint16_t, uint64_t) const override { return besides; }
  bool reserves = false;
  bool takes_pages = false;
  bool spares_copy = false;
  std::deque<std::vector<uint8_t>> taken;
  unsigned unreserved = 0;
};

// Waits for the client, or does as if it had.
struct Waiting final : nbd::LeaderWaits {
  explicit Waiting(transport::Transport &transport) : transport(transport) {}
  transport::Transport &transport;
  transport::Wait wait(transport::Wanted wanted, int timeout_ms, bool) override {
    waits_ms.push_back(timeout_ms);
    if (seconds_without_input > 0) {
      seconds_without_input--;
      return transport::Wait::timed_out;
    }
    std::exchange(then, [] {})();
    return transport.wait(wanted, timeout_ms);
  }
  bool has_idled() override {
    idled++;
    return idled > seconds_in_flight;
  }
  bool waits_in_poller(bool) override { return elsewhere; }
  void waits_here() override {}
  bool wait_for_memory() override {
    waits_for_memory++;
    return std::exchange(on_wait_for_memory, [] { return false; })();
  }
  unsigned seconds_without_input = 0;
  unsigned seconds_in_flight = 0; // of those
  unsigned idled = 0;
  unsigned waits_for_memory = 0;
  std::function<void()> then = [] {};
  std::function<bool()> on_wait_for_memory = [] { return false; };
  std::vector<int> waits_ms;
  bool elsewhere = false;
};

struct Reading final : nbd::ReplyListener {
  explicit Reading(Over over = Over::unix_socket) : sockets(over) {}
  SocketPair sockets;
  nbd::Resources &resources = system_resources();
  transport::Transport transport{resources.page_pipes, sockets.server, sockets.server, -1};
  nbd::ReplyQueue replies{transport, *this};
  nbd::ExportFacts facts{SIZE, FLAGS, {}};
  NoMaker maker;
  std::atomic<bool> stop{false};
  Charging charging;
  Waiting waiting{transport};
  base::SystemClock clock;
  schedule::SpinLimit spin_limit{1};
  nbd::RequestPool requests{resources, maker, wire::ReplyStyle::simple};
  nbd::RequestReader reader{resources, transport, requests, facts, charging};
  nbd::Intake intake{{transport, reader, requests, replies, waiting, stop},
                     {clock, spin_limit, 0},
                     nbd::WhenFull::wait};

  PendingRequest *next() { return intake.next(); }
  void on_sent(PendingRequest *, uint32_t) override {}
  void on_full() override {}
  // For the client: until all it has sent so far has been received.
  void wait_until_read() const {
    int unread = 1;
    while (unread > 0) {
      REQUIRE(ioctl(sockets.server, SIOCINQ, &unread) == 0);
      std::this_thread::yield();
    }
  }
  // Gives everything of a request back, as a connection does once its reply has left.
  void finish(PendingRequest *request) {
    request->reply_buffer->unref();
    if (request->payload_buffer != nullptr)
      request->payload_buffer->unref();
    charging.charged_bytes -= request->charge.bytes();
    request->stage = PendingRequest::Stage::free;
    requests.recycle(request, request);
  }
};

std::vector<uint8_t> joined(const std::vector<uint8_t> &first, const std::vector<uint8_t> &second) {
  std::vector<uint8_t> bytes(first.size() + second.size());
  std::copy(first.begin(), first.end(), bytes.begin());
  std::copy(second.begin(), second.end(), bytes.begin() + static_cast<ptrdiff_t>(first.size()));
  return bytes;
}

std::vector<uint8_t> write_request(uint64_t cookie, uint64_t offset,
                                   const std::vector<uint8_t> &payload) {
  auto bytes =
      encode_request(wire::NBD_CMD_WRITE, cookie, offset, static_cast<uint32_t>(payload.size()));
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

std::vector<uint8_t> pattern(size_t bytes, uint8_t seed) {
  std::vector<uint8_t> data(bytes);
  for (size_t i = 0; i < bytes; i++)
    data[i] = static_cast<uint8_t>(seed + i * 31 + (i >> 8));
  return data;
}

// Of a write, wherever it is.
std::vector<uint8_t> payload_of(PendingRequest *request) {
  std::vector<uint8_t> bytes(request->length_bytes);
  if (request->pages)
    REQUIRE(request->pages->take_out(bytes.data()) == bytes.size());
  else
    memcpy(bytes.data(), request->data, bytes.size());
  return bytes;
}

} // namespace

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
    const auto payload = pattern(100000, 1);
    REQUIRE(send_all(reading.sockets.client, encode_request(wire::NBD_CMD_WRITE, 1, 0, 100000)));
    std::thread client([&] {
      reading.wait_until_read();
      send_all(reading.sockets.client, payload.data(), 50000);
      CHECK(send(reading.sockets.client, "!", 1, MSG_OOB) == 1);
      send_all(reading.sockets.client, payload.data() + 50000, 50000);
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
