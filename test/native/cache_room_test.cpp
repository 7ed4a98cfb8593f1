// The cache filter where its room is limited: what it drops, and what becomes of requests without
// room.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>
#include <sys/resource.h>
#include <vector>

#include "cached.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace cached;

TEST_CASE("blocks are written back before they are dropped, and the size limit holds") {
  Cached cached({{"mode", std::string("unsafe")}, {"maxBytes", 16.0 * BLOCK}});
  Backend &client = cached.connect();
  for (uint64_t block = 0; block < 64; block++)
    CHECK(write(client, block * BLOCK, BLOCK, static_cast<uint8_t>(100 + block)) == 0);
  size_t below = 0;
  for (uint64_t block = 0; block < 64; block++) {
    below += cached.disk.bytes[block * BLOCK] == 100 + block;
    CHECK(read(client, block * BLOCK, 1)[0] == 100 + block);
  }
  CHECK(below >= 64 - 16);
  CHECK(below < 64);
}

TEST_CASE("a dropped block is durable first if the disk below can flush") {
  auto calls_of = [](const char *mode, void (*change)(Facts &)) {
    Calls calls;
    Cached cached({{"mode", std::string(mode)}, {"maxBytes", 4.0 * BLOCK}});
    Backend &client = cached.connect(std::make_unique<NotedBackend>(cached.disk, calls, change));
    for (uint64_t block = 0; block < 8; block += 2)
      CHECK(write(client, block * BLOCK, BLOCK, 9) == 0);
    calls.resize(std::min<size_t>(calls.size(), 2));
    return calls;
  };
  auto all = [](Facts &) {};
  auto no_fua = [](Facts &can) { can.fua = Support::none; };
  CHECK(calls_of("writeback", all)[0] == "write 0+1 fua");
  CHECK(calls_of("writeback", no_fua) == Calls{"write 0+1", "flush"});
  CHECK(calls_of("unsafe", all)[0] == "write 0+1");
}

TEST_CASE("blocks that cannot be written back stay, and others are dropped for new writes") {
  Cached cached({{"mode", std::string("writeback")}, {"maxBytes", 8.0 * BLOCK}});
  Backend &client = cached.connect();
  cached.disk.error_of = [](const Request &request) {
    const bool is_bad =
        request.offset <= 3 * BLOCK && request.offset + request.length_bytes > BLOCK;
    return request.type == wire::NBD_CMD_WRITE && is_bad ? EIO : 0;
  };
  for (uint64_t block = 0; block < 64; block++)
    CHECK(write(client, block * BLOCK, BLOCK, static_cast<uint8_t>(100 + block)) == 0);
  for (uint64_t block = 0; block < 64; block++)
    CHECK(read(client, block * BLOCK, 1)[0] == 100 + block);
  CHECK(flush(client) == EIO);
  cached.disk.error_of = nullptr;
  CHECK(flush(client) == 0);
  for (uint64_t block = 0; block < 64; block++)
    CHECK(cached.disk.bytes[block * BLOCK] == 100 + block);
}

TEST_CASE("cache requests of a read-only client make no room") {
  Cached cached({{"mode", std::string("writeback")}, {"maxBytes", 4.0 * BLOCK}});
  Backend &writer = cached.connect();
  Backend &reader = cached.connect(
      std::make_unique<LesserBackend>(cached.disk, [](Facts &can) { can.can_write = false; }));
  for (uint64_t block = 0; block < 4; block++)
    CHECK(write(writer, block * BLOCK, BLOCK, 9) == 0);
  for (const uint64_t blocks : {1, 3, 8})
    CHECK(run(reader, wire::NBD_CMD_CACHE, 20 * BLOCK, blocks * BLOCK) == 0);
  for (uint64_t block = 0; block < 32; block++)
    CHECK(read(reader, block * BLOCK, 1)[0] == (block < 4 ? 9 : Cached::original(block * BLOCK)));
  CHECK(flush(writer) == 0);
  CHECK(cached.disk.bytes[3 * BLOCK] == 9);
}

TEST_CASE("blocks in use stay, unused ones are dropped") {
  Cached cached({{"mode", std::string("writeback")}, {"maxBytes", 20.0 * BLOCK}});
  Backend &client = cached.connect();
  CHECK(run(client, wire::NBD_CMD_CACHE, 0, BLOCK) == 0);
  for (uint64_t block = 1; block < 64; block++) {
    CHECK(run(client, wire::NBD_CMD_CACHE, block * BLOCK, BLOCK) == 0);
    cached.disk.submitted = 0;
    CHECK(read(client, 0, BLOCK)[0] == Cached::original(0));
    CHECK(cached.disk.submitted == 0);
  }
  CHECK(read(client, 2 * BLOCK, BLOCK)[0] == Cached::original(2 * BLOCK));
  CHECK(cached.disk.submitted == 1);
}

TEST_CASE("without room writes fail, reads succeed, and nothing is lost") {
  Cached cached({{"mode", std::string("writeback")}, {"maxBytes", 8.0 * BLOCK}, {"onRead", true}});
  Backend &client = cached.connect();
  cached.disk.error_of = [](const Request &request) {
    return request.type == wire::NBD_CMD_WRITE ? EIO : 0;
  };
  uint64_t written = 0;
  while (written < 64 && write(client, written * BLOCK, BLOCK, 9) == 0)
    written++;
  CHECK(written >= 6);
  CHECK(written <= 8);
  for (uint64_t block = 0; block < 64; block++)
    CHECK(read(client, block * BLOCK, 1)[0] ==
          (block < written ? 9 : Cached::original(block * BLOCK)));
  cached.disk.error_of = nullptr;
  CHECK(flush(client) == 0);
  CHECK(cached.disk.bytes[(written - 1) * BLOCK] == 9);
}

TEST_CASE("if the temporary file has no space, only requests that need some fail") {
  struct Limit {
    rlimit before{};
    Limit() {
      signal(SIGXFSZ, SIG_IGN);
      getrlimit(RLIMIT_FSIZE, &before);
      const rlimit limit{32 * BLOCK, before.rlim_max};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~Limit() { setrlimit(RLIMIT_FSIZE, &before); }
  };
  Cached cached({{"mode", std::string("writeback")}, {"onRead", true}});
  Backend &client = cached.connect();
  const Limit limit;
  CHECK(write(client, BLOCK, BLOCK, 9) == 0);
  CHECK(write(client, 40 * BLOCK, BLOCK, 9) == ENOSPC);
  CHECK(write(client, 30 * BLOCK + 5, 4 * BLOCK, 9) == ENOSPC);
  CHECK(run(client, wire::NBD_CMD_CACHE, 41 * BLOCK, BLOCK) == ENOSPC);
  CHECK(read(client, 40 * BLOCK, BLOCK) ==
        std::vector<uint8_t>(cached.disk.bytes.begin() + 40 * BLOCK,
                             cached.disk.bytes.begin() + 41 * BLOCK));
  CHECK(read(client, BLOCK, 1)[0] == 9);
  CHECK(flush(client) == 0);
  CHECK(cached.disk.bytes[BLOCK] == 9);
  CHECK(cached.disk.bytes[40 * BLOCK] == Cached::original(40 * BLOCK));
}
