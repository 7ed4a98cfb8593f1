// What the blocksize filter asks of a disk that takes only whole blocks, and what it tells clients.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blocksize_front.hpp"
#include "held_backend.hpp"

using namespace blocks;

TEST_CASE("the disk gets whole blocks while clients may send any size") {
  Blocksize front(options(4096));
  const Facts &facts = front.connect().facts();
  CHECK(facts.size_bytes == SIZE / 4096 * 4096);
  REQUIRE(facts.block_sizes);
  CHECK(facts.block_sizes->minimum == 1);
  CHECK(facts.block_sizes->preferred == 4096);
  CHECK(facts.block_sizes->maximum == UINT32_MAX);
  CHECK_FALSE(facts.block_sizes_bind);
}

TEST_CASE("the plugin's own block sizes count, too") {
  Blocksize front({});
  Backend &client = front.connect_to({.sizes = {1024, 8192, 16384}});
  CHECK(client.facts().block_sizes->preferred == 8192);
  front.note_calls();
  CHECK(run(client, NBD_CMD_READ, 100, 20'000) == 0);
  CHECK(front.calls == std::vector<AskedBelow>{{NBD_CMD_READ, 0, 0, 1024},
                                               {NBD_CMD_READ, 0, 1024, 16384},
                                               {NBD_CMD_READ, 0, 17408, 2048},
                                               {NBD_CMD_READ, 0, 19456, 1024}});
}

TEST_CASE("a client is refused if the limits leave no room for a block") {
  Blocksize front({{"maxData", 512.0}});
  CHECK(front.try_connect(std::make_unique<BelowBackend>(
            front.disk, Below{.sizes = {4096, 4096, UINT32_MAX}})) == nullptr);
  CHECK(front.error.find("4096") != std::string::npos);
}

TEST_CASE("options that contradict each other are refused") {
  for (const filters::FilterOptions &given : {
           options(513),
           options(128 << 10),
           options(512, 1000),
           options(512, 0, 1000),
           filters::FilterOptions{{"maxData", 0.0}},
       })
    CHECK(Blocksize(given).filter == nullptr);
}

TEST_CASE("a payload that begins or ends inside a block is not received in place") {
  for (const uint64_t block : {uint64_t{1}, BLOCK}) {
    Blocksize front(options(static_cast<double>(block)));
    Backend &client = front.connect();
    TestRequest write(NBD_CMD_WRITE, BLOCK, 2 * BLOCK, 7);
    const uint8_t *place = client.reserve(write).data;
    CHECK(place == (block == 1 ? &front.disk.bytes[BLOCK] : nullptr));
    if (place != nullptr)
      client.unreserve(write);
    CHECK(front.disk.reserved == 0);
    TestRequest read(NBD_CMD_READ, BLOCK, BLOCK);
    CHECK(client.reserve(read).data == &front.disk.bytes[BLOCK]);
  }
}

TEST_CASE("a client that stops in the middle of a write delays no other") {
  Blocksize front(options(BLOCK));
  Backend &stopped = front.connect_to({.spares_copy = true});
  Backend &writer = front.connect_to({.spares_copy = true});
  TestRequest whole(NBD_CMD_WRITE, 0, 2 * BLOCK, 7);
  uint8_t *memory = stopped.reserve(whole).data;
  REQUIRE(memory != nullptr);
  CHECK(run(writer, NBD_CMD_WRITE, 10, 20, 0, 9) == 0);
  CHECK(run(writer, NBD_CMD_WRITE, 0, BLOCK, 0, 8) == 0);
  CHECK(run(writer, NBD_CMD_WRITE, 10, 20, 0, 9) == 0);
  CHECK(front.disk.bytes[9] == 8);
  CHECK(front.disk.bytes[10] == 9);

  // And if it goes on after all, it is as if it had begun now.
  std::memset(memory, 7, 2 * BLOCK);
  whole.is_reserved = true;
  whole.data = memory;
  CHECK(whole.run(stopped) == 0);
  CHECK(front.disk.bytes[10] == 7);
  CHECK(front.disk.reserved == 0);
}

TEST_CASE("a request given up while it waits leaves no reservation behind") {
  MemoryDisk disk{SIZE};
  HeldBackend::Held held;
  Blocksize front(options(BLOCK));
  auto opened = std::make_unique<HeldBackend>(disk, held);
  HeldBackend &holding = *opened;
  Backend &first = front.connect(std::move(opened));
  Backend &second = front.connect_to({.spares_copy = true});
  TestRequest part(NBD_CMD_WRITE, 1, 1, 7);
  first.submit(part, Caller::may_block);
  TestRequest whole(NBD_CMD_WRITE, 0, BLOCK, 8);
  whole.data = second.reserve(whole).data;
  REQUIRE(whole.data != nullptr);
  whole.is_reserved = true;
  second.submit(whole, Caller::may_block);
  CHECK_FALSE(whole.is_done());
  second.give_up_unanswered();
  CHECK(whole.wait() == ESHUTDOWN);
  CHECK(front.disk.reserved == 0);
  holding.answer(*held.take());
  holding.answer(*held.take());
  CHECK(part.wait() == 0);
}

TEST_CASE("changes of one block wait for each other, but not for other blocks") {
  MemoryDisk disk{SIZE};
  HeldBackend::Held held;
  Blocksize front(options(BLOCK));
  auto opened = std::make_unique<HeldBackend>(disk, held);
  HeldBackend &below = *opened;
  Backend &client = front.connect(std::move(opened));
  TestRequest first(NBD_CMD_WRITE, 1, 1, 7);
  TestRequest second(NBD_CMD_WRITE, 3, 1, 8);
  TestRequest other(NBD_CMD_WRITE, BLOCK + 3, 1, 9);
  client.submit(first, Caller::may_block);
  client.submit(second, Caller::may_block);
  client.submit(other, Caller::may_block);
  Request *of_first = held.take();
  Request *of_other = held.take();
  CHECK(of_other->offset == BLOCK);
  CHECK(held.requests.empty());
  below.answer(*of_first);
  below.answer(*held.take());
  CHECK(first.wait() == 0);
  Request *of_second = held.take();
  CHECK(of_second->offset == 0);

  // Nobody waits for ever.
  TestRequest waiting(NBD_CMD_WRITE, 3, 1, 8);
  client.submit(waiting, Caller::may_block);
  client.give_up_unanswered();
  CHECK(waiting.wait() == ESHUTDOWN);
  below.answer(*of_second);
  below.answer(*of_other);
  for (TestRequest *rest : {&second, &other})
    CHECK(rest->wait() == ESHUTDOWN);
}

TEST_CASE("a trim leaves partial blocks alone; caching covers their whole blocks") {
  Blocksize front(options(BLOCK, 1024, 2048));
  Backend &client = front.connect();
  front.note_calls();
  CHECK(run(client, NBD_CMD_TRIM, 100, 4000) == 0);
  CHECK(run(client, NBD_CMD_TRIM, 1, 1) == 0);
  CHECK(run(client, NBD_CMD_CACHE, 600, 1000) == 0);
  CHECK(front.calls == std::vector<AskedBelow>{{NBD_CMD_TRIM, 0, 512, 2048},
                                               {NBD_CMD_TRIM, 0, 2560, 1536},
                                               {NBD_CMD_CACHE, 0, 512, 1024},
                                               {NBD_CMD_CACHE, 0, 1536, 512}});
}

TEST_CASE("a fast zero that would need several calls is refused") {
  Blocksize front(options(BLOCK, 0, 2048));
  Backend &client = front.connect();
  CHECK(run(client, NBD_CMD_WRITE_ZEROES, 0, 2048, NBD_CMD_FLAG_FAST_ZERO) == 0);
  CHECK(run(client, NBD_CMD_WRITE_ZEROES, 0, 2560, NBD_CMD_FLAG_FAST_ZERO) == ENOTSUP);
  CHECK(run(client, NBD_CMD_WRITE_ZEROES, 0, 100, NBD_CMD_FLAG_FAST_ZERO) == ENOTSUP);
}

TEST_CASE("if FUA is emulated below, one flush follows all pieces of a write") {
  Blocksize front(options(BLOCK, 1024));
  Backend &client = front.connect_to({.fua = Support::emulate});
  front.note_calls();
  CHECK(run(client, NBD_CMD_WRITE, 0, 2048, NBD_CMD_FLAG_FUA) == 0);
  CHECK(front.calls == std::vector<AskedBelow>{{NBD_CMD_WRITE, 0, 0, 1024},
                                               {NBD_CMD_WRITE, 0, 1024, 1024},
                                               {NBD_CMD_FLUSH, 0, 0, 0}});
}

TEST_CASE("extents are of whole blocks") {
  Blocksize front(options(2048));
  auto &bytes = front.disk.bytes;
  std::fill(bytes.begin(), bytes.end(), 0);
  bytes[5000] = 1; // the third 2048 bytes have 512 of data
  Backend &client = front.connect();
  const auto first = extents_of(client, 100, 10'000);
  REQUIRE(first.size() == 1);
  CHECK(first[0].length_bytes == 4096 - 100);
  CHECK(first[0].flags == 3);
  const auto mixed = extents_of(client, 4096, 4096);
  REQUIRE(mixed.size() == 1);
  CHECK(mixed[0].length_bytes == 2048);
  CHECK(mixed[0].flags == 0);
  // Below tells of one extent alone, which ends within the block: it is asked about the rest.
  const auto one = extents_of(client, 4097, 4, NBD_CMD_FLAG_REQ_ONE);
  REQUIRE(one.size() == 1);
  CHECK(one[0].length_bytes == 2047);
  CHECK(one[0].flags == 0);
}
