// Replies of many threads in one stream: none lost, none twice, none torn.
#include <doctest/doctest.h>

#include <atomic>
#include <csignal>
#include <deque>
#include <set>
#include <sys/mman.h>
#include <thread>

#include "nbd/reply_encoding.hpp"
#include "nbd/reply_queue.hpp"
#include "support.hpp"
#include "wire/commands.hpp"

using namespace asyncnbd;
using nbd::PendingRequest;
using nbd::WhenFull;

namespace {

struct Sending final : nbd::ReplyListener {
  SocketPair sockets;
  transport::PagePipes pipes;
  transport::Transport transport{pipes, sockets.server, sockets.server, -1};
  nbd::ReplyQueue queue{transport, *this};
  std::atomic<uint32_t> sent{0};
  base::FreeMemory free_memory;
  base::BufferPool memory{free_memory}; // of replies

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

// The reply to a LargeRequest: its cookie.
uint64_t read_large(const Sending &sending, std::vector<uint8_t> *data) {
  Reply reply;
  data->resize(1 << 20);
  REQUIRE(read_reply(sending.sockets.client, &reply));
  REQUIRE(read_all(sending.sockets.client, data->data(), data->size()));
  return reply.cookie;
}

// Pushes requests whose data are a MiB each of a file, in pipes.
void push_piped(Sending &sending, int file, uint64_t count, std::deque<LargeRequest> *requests) {
  for (uint64_t i = 0; i < count; i++) {
    LargeRequest &request = requests->emplace_back(i);
    request.pages = sending.pipes.take(transport::PagePipe::For::sending);
    REQUIRE(request.pages);
    REQUIRE(request.pages->put_file(file, i << 20, 1 << 20) == 0);
    sending.queue.push(&request);
  }
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

// The next chunk of a structured reply: its payload.
std::vector<uint8_t> read_chunk(int socket, uint16_t *type, uint64_t *cookie) {
  uint8_t header[wire::CHUNK_HEADER_BYTES];
  REQUIRE(read_all(socket, header, sizeof header));
  REQUIRE(wire::decode_u32(header) == wire::NBD_STRUCTURED_REPLY_MAGIC);
  *type = static_cast<uint16_t>(header[6] << 8 | header[7]);
  *cookie = wire::decode_u64(header + 8);
  std::vector<uint8_t> payload(wire::decode_u32(header + 16));
  if (!payload.empty()) // it would wait for more
    REQUIRE(read_all(socket, payload.data(), payload.size()));
  return payload;
}

// A reply of so many kinds of chunks, by number.
void make_structured(OwnRequest &request, uint64_t number, const std::string &words,
                     base::BufferPool &memory) {
  request.style = wire::ReplyStyle::structured;
  request.data = request.memory + 32;
  request.reply = request.data - nbd::data_header_bytes(request.style);
  backend::RequestExtras &extras = request.make_extras();
  switch (number % 4) {
  case 1:
    request.type = wire::NBD_CMD_BLOCK_STATUS;
    request.length_bytes = 500;
    extras.statuses.push_back({9, 0, {}});
    for (uint64_t i = 0; i < 500; i++)
      extras.statuses[0].extents.push_back({1, i % 2});
    break;
  case 2:
    request.error = EIO;
    extras.error_text = words;
    break;
  case 3:
    request.type = wire::NBD_CMD_READ;
    request.length_bytes = 24;
    extras.runs = std::make_unique<std::vector<backend::Run>>(
        std::vector<backend::Run>{{0, 8, true}, {8, 8, false}, {16, 8, true}});
    break;
  default:
    break;
  }
  nbd::encode_answer(request, 1, memory);
}

TEST_CASE("structured replies of each kind leave as one stream, however little is sent at once") {
  Sending sending;
  std::deque<OwnRequest> requests;
  const std::string words(1000, 'w');
  for (uint64_t i = 0; i < 40; i++) {
    OwnRequest &request = requests.emplace_back(i, i % 4 == 0);
    make_structured(request, i, words, sending.memory);
    sending.queue.push(&request);
  }
  std::thread sender([&] { sending.queue.flush(WhenFull::wait); });
  for (uint64_t i = 0; i < 40; i++) {
    uint16_t type;
    uint64_t cookie;
    auto payload = read_chunk(sending.sockets.client, &type, &cookie);
    CHECK(cookie == i);
    const uint16_t types[] = {wire::NBD_REPLY_TYPE_OFFSET_DATA, wire::NBD_REPLY_TYPE_BLOCK_STATUS,
                              wire::NBD_REPLY_TYPE_ERROR, wire::NBD_REPLY_TYPE_OFFSET_HOLE};
    const size_t sizes[] = {8 + 8, 4 + 500 * 8, 6 + words.size(), 12};
    CHECK(type == types[i % 4]);
    CHECK(payload.size() == sizes[i % 4]);
    if (i % 4 != 3)
      continue;
    CHECK(read_chunk(sending.sockets.client, &type, &cookie).size() == 16);
    CHECK(type == wire::NBD_REPLY_TYPE_OFFSET_DATA);
    payload = read_chunk(sending.sockets.client, &type, &cookie);
    CHECK(type == wire::NBD_REPLY_TYPE_OFFSET_HOLE);
    CHECK(wire::decode_u64(payload.data()) == 16);
    CHECK(wire::decode_u32(payload.data() + 8) == 8);
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

TEST_CASE("a thread that must not block leaves a full socket to one that may") {
  constexpr uint64_t COUNT = 20;
  Sending sending;
  std::deque<LargeRequest> requests;
  for (uint64_t i = 0; i < COUNT; i++) {
    LargeRequest &request = requests.emplace_back(i);
    memset(request.data, static_cast<int>(i), request.length_bytes);
    sending.queue.push(&request);
    sending.queue.flush(WhenFull::wake_leader);
  }
  CHECK(sending.full == 1); // and did not try again and again
  CHECK(sending.sent < COUNT);
  std::thread sender([&] { sending.queue.flush(WhenFull::wait); });
  for (uint64_t i = 0; i < COUNT; i++) {
    std::vector<uint8_t> data;
    CHECK(read_large(sending, &data) == i);
    CHECK(data == bytes_of(static_cast<uint8_t>(i)));
  }
  sender.join();
  CHECK(sending.sent == COUNT);
  CHECK(sending.queue.pending_bytes() == 0);
}

TEST_CASE("a busy thread sends for one turn even if the client keeps up") {
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
    sending.queue.flush(WhenFull::return_early);
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
      request.answer = {backend::Answer::Kind::borrowed, borrowed.data()};
      if (!sending.queue.send_borrowed(&request)) {
        request.answer = {};
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
    std::vector<uint8_t> data;
    const uint64_t cookie = read_large(sending, &data);
    CHECK(data == bytes_of(static_cast<uint8_t>(cookie + 1)));
  }
  sender.join();
  CHECK(sending.sent == COUNT);
}

TEST_CASE("data in a pipe follows its header, whichever thread sends it") {
  constexpr uint64_t COUNT = 8;
  const int file = memfd_create("reply_queue_test", MFD_CLOEXEC);
  for (uint64_t i = 0; i < COUNT; i++)
    REQUIRE(write(file, bytes_of(static_cast<uint8_t>(i + 1)).data(), 1 << 20) == 1 << 20);
  Sending sending;
  std::deque<LargeRequest> requests;
  push_piped(sending, file, COUNT, &requests);
  SUBCASE("at once") {}
  SUBCASE("by a thread that must not wait, then by another") {
    sending.queue.flush(WhenFull::wake_leader);
    CHECK(sending.sent < COUNT);
  }
  SUBCASE("by a thread that must not wait, once it can") {
    sending.queue.flush(WhenFull::return_early);
  }
  std::thread sender([&] { sending.queue.flush(WhenFull::wait); });
  for (uint64_t i = 0; i < COUNT; i++) {
    std::vector<uint8_t> data;
    CHECK(read_large(sending, &data) == i);
    CHECK(data == bytes_of(static_cast<uint8_t>(i + 1)));
  }
  sender.join();
  CHECK(sending.sent == COUNT);
  CHECK(sending.queue.pending_bytes() == 0);
  close(file);
}

TEST_CASE("data in pipes to a client that goes is dropped") {
  signal(SIGPIPE, SIG_IGN); // as Node.js does: splice(2) has no flag for it
  const int file = memfd_create("reply_queue_test", MFD_CLOEXEC);
  REQUIRE(ftruncate(file, 8 << 20) == 0);
  Sending sending;
  std::deque<LargeRequest> requests;
  push_piped(sending, file, 8, &requests);
  std::thread client([&] {
    std::vector<uint8_t> some(100000);
    CHECK(read_all(sending.sockets.client, some.data(), some.size()));
    sending.sockets.close_client();
  });
  sending.queue.flush(WhenFull::wait);
  client.join();
  CHECK(sending.sent == 8);
  CHECK(sending.queue.pending_bytes() == 0);
  close(file);
}

TEST_CASE("lent data follows its header") {
  Sending sending;
  const std::vector<uint8_t> lent = bytes_of(9);
  LargeRequest request(5);
  request.answer = {backend::Answer::Kind::disk, lent.data()};
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
