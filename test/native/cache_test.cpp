// The cache filter in front of a disk in memory: what clients see, and when what they write gets
// below.
#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cached.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace cached;

TEST_CASE(
    "all clients see writes at once, and the disk below has them after a flush, in each mode") {
  for (const char *mode : {"writeback", "writethrough", "unsafe"})
    for (const double max_bytes : {0.0, 8.0 * BLOCK})
      for (const bool on_read : {false, true}) {
        CAPTURE(mode);
        CAPTURE(max_bytes);
        CAPTURE(on_read);
        Cached cached({{"mode", std::string(mode)}, {"maxBytes", max_bytes}, {"onRead", on_read}});
        Backend &writer = cached.connect();
        Backend &reader = cached.connect();
        std::vector<uint8_t> model = cached.disk.bytes;
        const std::pair<uint64_t, uint64_t> ranges[] = {
            {100, 50},     {BLOCK - 1, 2}, {2 * BLOCK, BLOCK}, {5 * BLOCK + 9, 30 * BLOCK},
            {SIZE - 1, 1}, {0, SIZE},      {BLOCK, 700},       {63 * BLOCK + 5, BLOCK + 600},
        };
        uint8_t fill = 200;
        for (const uint16_t flags : {uint16_t{0}, wire::NBD_CMD_FLAG_FUA})
          for (const auto &[offset, bytes] : ranges) {
            CHECK(write(writer, offset, bytes, ++fill, flags) == 0);
            memset(model.data() + offset, fill, bytes);
            CHECK(read(reader, 0, SIZE) == model);
            CHECK(run(writer, wire::NBD_CMD_WRITE_ZEROES, offset, bytes, flags) == 0);
            memset(model.data() + offset, 0, bytes);
            CHECK(read(reader, 0, SIZE) == model);
            CHECK(read(reader, offset, bytes) == std::vector<uint8_t>(bytes, 0));
            CHECK(run(reader, wire::NBD_CMD_CACHE, offset, bytes) == 0);
          }
        CHECK(flush(reader) == 0);
        CHECK(read(writer, 0, SIZE) == model);
        if (std::string(mode) != "unsafe")
          CHECK(cached.disk.bytes == model);
      }
}

TEST_CASE("a write reaches the disk below at a flush, with FUA or at once, as the mode says") {
  std::vector<std::string> calls;
  auto note = [&calls](const Request &request) {
    calls.push_back(std::to_string(request.type) + " " + std::to_string(request.offset) + " " +
                    std::to_string(request.length_bytes) + " " + std::to_string(request.flags));
    return 0;
  };
  auto calls_of = [&](const char *mode) {
    calls.clear();
    Cached cached({{"mode", std::string(mode)}});
    cached.disk.error_of = note;
    Backend &client = cached.connect();
    CHECK(write(client, BLOCK, 2 * BLOCK, 9) == 0);
    calls.emplace_back("flush");
    CHECK(flush(client) == 0);
    calls.emplace_back("durable");
    CHECK(write(client, SIZE - 700, 700, 9, wire::NBD_CMD_FLAG_FUA) == 0);
    CHECK(run(client, wire::NBD_CMD_WRITE_ZEROES, 0, 1, wire::NBD_CMD_FLAG_FUA) == 0);
    return calls;
  };
  CHECK(calls_of("writeback") == Calls{"flush", "1 4096 8192 0", "3 0 0 0", "durable",
                                       "1 262144 700 1", "0 0 4096 0", "1 0 4096 1"});
  CHECK(calls_of("writethrough") == Calls{"1 4096 8192 0", "flush", "3 0 0 0", "durable",
                                          "1 262144 700 1", "0 0 4096 0", "1 0 4096 1"});
  CHECK(calls_of("unsafe") == Calls{"flush", "durable", "0 0 4096 0"});
}

TEST_CASE("if the client cannot flush, writes go through at once") {
  Cached cached(WRITEBACK);
  Backend &client = cached.connect(
      std::make_unique<LesserBackend>(cached.disk, [](Facts &can) { can.can_flush = false; }));
  CHECK_FALSE(client.facts().can_flush);
  CHECK(write(client, 5, 10, 9) == 0);
  CHECK(cached.disk.bytes[5] == 9);
}

TEST_CASE("it reports the capabilities that nbdkit's filter reports") {
  auto can = [](const char *mode) {
    Cached cached({{"mode", std::string(mode)}});
    return cached
        .connect(std::make_unique<LesserBackend>(cached.disk,
                                                 [](Facts &below) {
                                                   below.can_multi_conn = below.can_flush = false;
                                                   below.fua = below.cache = Support::none;
                                                 }))
        .facts();
  };
  for (const char *mode : {"writeback", "writethrough", "unsafe"}) {
    const Facts all = can(mode);
    CHECK(all.cache == Support::native);
    CHECK(all.can_multi_conn == (std::string(mode) != "writethrough"));
    CHECK(all.can_flush == (std::string(mode) == "unsafe"));
    CHECK(all.fua == (std::string(mode) == "unsafe" ? Support::native : Support::none));
  }
  Cached cached(WRITEBACK);
  Backend &client = cached.connect();
  CHECK(client.facts().can_fast_zero);
  CHECK(run(client, wire::NBD_CMD_WRITE_ZEROES, 0, BLOCK, wire::NBD_CMD_FLAG_FAST_ZERO) == ENOTSUP);
}

TEST_CASE("cache requests fetch a block once, and reads do so only if reads are kept") {
  for (const bool on_read : {false, true}) {
    Cached cached({{"mode", std::string("writeback")}, {"onRead", on_read}});
    Backend &client = cached.connect();
    TestRequest below(wire::NBD_CMD_READ, 3 * BLOCK, BLOCK);
    CHECK((client.reserve(below).data == nullptr) == on_read);
    for (int i = 0; i < 3; i++)
      CHECK(read(client, 3 * BLOCK, BLOCK)[0] == Cached::original(3 * BLOCK));
    CHECK(cached.disk.submitted == (on_read ? 1 : 3));
    cached.disk.submitted = 0;
    for (int i = 0; i < 3; i++)
      CHECK(run(client, wire::NBD_CMD_CACHE, 10 * BLOCK + 5, BLOCK) == 0);
    CHECK(read(client, 11 * BLOCK, BLOCK)[0] == Cached::original(11 * BLOCK));
    CHECK(cached.disk.submitted == 1);
  }
}

TEST_CASE("blocks not yet written back are data; for others the disk below gives the extents") {
  Cached cached(WRITEBACK);
  memset(cached.disk.bytes.data() + 8 * BLOCK, 0, 4 * BLOCK);
  Backend &client = cached.connect();
  auto extents = [&client] {
    TestRequest request(wire::NBD_CMD_BLOCK_STATUS, 8 * BLOCK, 5 * BLOCK);
    CHECK(request.run(client) == 0);
    std::vector<std::pair<uint64_t, uint64_t>> found;
    for (const Extent &extent : request.extras->statuses[0].extents)
      found.emplace_back(extent.length_bytes, extent.flags);
    return found;
  };
  using Found = std::vector<std::pair<uint64_t, uint64_t>>;
  CHECK(extents() == Found{{4 * BLOCK, 3}, {BLOCK, 0}});
  CHECK(write(client, 9 * BLOCK, BLOCK, 7) == 0);
  CHECK(extents() == Found{{BLOCK, 3}, {BLOCK, 0}, {2 * BLOCK, 3}, {BLOCK, 0}});
  CHECK(flush(client) == 0);
  CHECK(extents() == Found{{BLOCK, 3}, {BLOCK, 0}, {2 * BLOCK, 3}, {BLOCK, 0}});
}

// Each thread has every fourth sector: all blocks are all threads'.
TEST_CASE("many threads at once, with and without room, lose nothing") {
  for (const double max_bytes : {0.0, 12.0 * BLOCK}) {
    Cached cached({{"mode", std::string("writeback")}, {"maxBytes", max_bytes}, {"onRead", true}});
    std::vector<uint8_t> model = cached.disk.bytes;
    std::vector<std::thread> threads;
    std::atomic<unsigned> wrong{0};
    constexpr uint64_t SECTORS = 64 * BLOCK / 512;
    for (uint64_t of = 0; of < 4; of++) {
      Backend &client = cached.connect();
      threads.emplace_back([&, of] {
        std::mt19937 random(static_cast<uint32_t>(of));
        for (int i = 0; i < 3000; i++) {
          const uint64_t at = (random() % (SECTORS / 4) * 4 + of) * 512;
          const auto fill = static_cast<uint8_t>(random());
          const unsigned kind = random() % 8;
          TestRequest request(kind < 4    ? wire::NBD_CMD_WRITE
                              : kind == 4 ? wire::NBD_CMD_FLUSH
                                          : wire::NBD_CMD_READ,
                              kind == 4 ? 0 : at, kind == 4 ? 0 : 512, fill);
          request.flags = kind == 0 ? wire::NBD_CMD_FLAG_FUA : 0;
          wrong += request.run(client) != 0;
          if (kind < 4)
            memset(model.data() + at, fill, 512);
          else if (kind > 4)
            wrong += memcmp(request.content.data(), model.data() + at, 512) != 0;
        }
      });
    }
    for (std::thread &thread : threads)
      thread.join();
    CHECK(wrong == 0);
    CHECK(read(*cached.clients[0], 0, SIZE) == model);
    CHECK(flush(*cached.clients[0]) == 0);
    CHECK(cached.disk.bytes == model);
  }
}
