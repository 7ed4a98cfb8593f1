// The cache filter in front of a disk in memory: what clients see, when what they write gets below,
// and that nothing is lost that has not got there.
#include <doctest/doctest.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <random>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>

#include "block_filter.hpp"
#include "held_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

constexpr uint64_t SIZE = 64 * BLOCK + 700; // the last block is short

struct Cached : BlockFilter {
  explicit Cached(filters::FilterOptions options)
      : BlockFilter("cache", std::move(options), SIZE, SIZE) {}
};

const filters::FilterOptions WRITEBACK{{"mode", std::string("writeback")}};

int flush(Backend &client) {
  return run(client, wire::NBD_CMD_FLUSH, 0, 0);
}

// One that lacks what a test takes away.
struct LesserBackend : MemoryBackend {
  LesserBackend(MemoryDisk &disk, void (*change)(Facts &)) : MemoryBackend(disk) { change(told_); }
};

using Calls = std::vector<std::string>;

// One that notes how it is written to and flushed: "write 3+2 fua" of blocks.
struct NotedBackend final : LesserBackend {
  NotedBackend(
      MemoryDisk &disk, Calls &noted, void (*change)(Facts &) = [](Facts &) {})
      : LesserBackend(disk, change), calls(noted) {}

  void submit(Request &request, Caller caller) override {
    if (request.type == wire::NBD_CMD_FLUSH)
      calls.emplace_back("flush");
    else if (request.type == wire::NBD_CMD_WRITE)
      calls.push_back("write " + std::to_string(request.offset / BLOCK) + "+" +
                      std::to_string(request.length_bytes / BLOCK) +
                      ((request.flags & wire::NBD_CMD_FLAG_FUA) != 0 ? " fua" : ""));
    LesserBackend::submit(request, caller);
  }

  Calls &calls;
};

int fail_flushes(const Request &request) {
  return request.type == wire::NBD_CMD_FLUSH ? EIO : 0;
}

} // namespace

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

TEST_CASE(
    "a block that cannot be written back fails each flush, and other blocks are still written") {
  Cached cached(WRITEBACK);
  Backend &client = cached.connect();
  CHECK(write(client, 2 * BLOCK, BLOCK, 7) == 0);
  CHECK(write(client, 5 * BLOCK, BLOCK, 8) == 0);
  cached.disk.error_of = [](Request &request) {
    if (request.type != wire::NBD_CMD_WRITE || request.offset != 2 * BLOCK)
      return 0;
    request.make_extras().error_text = "bad sector";
    return ENOSPC;
  };
  for (int i = 0; i < 2; i++) {
    TestRequest failing(wire::NBD_CMD_FLUSH, 0, 0);
    CHECK(failing.run(client) == ENOSPC);
    CHECK(failing.extras->error_text == "bad sector");
    CHECK(cached.disk.bytes[5 * BLOCK] == 8);
    CHECK(read(client, 2 * BLOCK, 1)[0] == 7);
  }
  CHECK(write(client, 2 * BLOCK + 9, 1, 9, wire::NBD_CMD_FLAG_FUA) == ENOSPC);
  cached.disk.error_of = nullptr;
  CHECK(flush(client) == 0);
  CHECK(cached.disk.bytes[2 * BLOCK] == 7);
  CHECK(cached.disk.bytes[2 * BLOCK + 9] == 9);
}

TEST_CASE("another client's flush writes what a client left unflushed") {
  Cached cached(WRITEBACK);
  Backend &other = cached.connect();
  {
    std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(cached.disk);
    prepare(*below);
    auto leaving =
        cached.filter->open(&below, cached.client.opening(), cached.state.get(), &cached.error);
    prepare(*leaving);
    CHECK(write(*leaving, 0, BLOCK, 9) == 0);
    leaving->close();
  }
  CHECK(cached.disk.bytes[0] == Cached::original(0));
  CHECK(flush(other) == 0);
  CHECK(cached.disk.bytes[0] == 9);
}

TEST_CASE("a read-only client's flush leaves the writes of others alone") {
  Cached cached({{"mode", std::string("writeback")}, {"maxBytes", 4.0 * BLOCK}, {"onRead", true}});
  Backend &writer = cached.connect();
  Backend &reader = cached.connect(
      std::make_unique<LesserBackend>(cached.disk, [](Facts &can) { can.can_write = false; }));
  for (uint64_t block = 0; block < 3; block++)
    CHECK(write(writer, block * BLOCK, BLOCK, 9) == 0);
  std::atomic<unsigned> writes{0};
  cached.disk.error_of = [&writes](const Request &request) {
    writes += request.type == wire::NBD_CMD_WRITE ? 1 : 0;
    return 0;
  };
  CHECK(flush(reader) == 0);
  for (uint64_t block = 0; block < 16; block++)
    CHECK(read(reader, block * BLOCK, 1)[0] == (block < 3 ? 9 : Cached::original(block * BLOCK)));
  CHECK(writes == 0);
  CHECK(flush(writer) == 0);
  CHECK(cached.disk.bytes[2 * BLOCK] == 9);
}

TEST_CASE("a flush waits for another client's write-back, and a change meanwhile is not lost") {
  Cached cached(WRITEBACK);
  HeldBackend::Held held_one;
  HeldBackend::Held held_other;
  HeldBackend answerer(cached.disk, held_one);
  Backend &one = cached.connect(std::make_unique<HeldBackend>(cached.disk, held_one));
  Backend &other = cached.connect(std::make_unique<HeldBackend>(cached.disk, held_other));
  CHECK(write(one, 0, BLOCK, 1) == 0);
  TestRequest first(wire::NBD_CMD_FLUSH, 0, 0);
  TestRequest second(wire::NBD_CMD_FLUSH, 0, 0);
  one.submit(first, Caller::may_block);
  Request *writing = held_one.take();
  CHECK(writing->type == wire::NBD_CMD_WRITE);
  CHECK(write(other, 0, 10, 2) == 0); // waits for nothing
  other.submit(second, Caller::may_block);
  CHECK(held_other.requests.empty()); // for one of the two would be written last
  answerer.answer(*writing);
  answerer.answer(*held_one.take()); // the flush below
  CHECK(first.wait() == 0);
  CHECK(cached.disk.bytes[0] == 1);
  Request *again = held_other.take();
  CHECK(again->type == wire::NBD_CMD_WRITE);
  answerer.answer(*again);
  CHECK_FALSE(second.is_done());
  answerer.answer(*held_other.take());
  CHECK(second.wait() == 0);
  CHECK(cached.disk.bytes[0] == 2);
  CHECK(cached.disk.bytes[10] == 1);
}

TEST_CASE("after a failed flush below, its blocks are written back and flushed again") {
  Cached cached(WRITEBACK);
  Calls calls;
  Backend &client = cached.connect(std::make_unique<NotedBackend>(cached.disk, calls));
  CHECK(write(client, BLOCK, 2 * BLOCK, 7) == 0);
  CHECK(write(client, 9 * BLOCK, BLOCK, 7) == 0);
  cached.disk.error_of = fail_flushes;
  for (int i = 0; i < 2; i++) {
    CHECK(flush(client) == EIO);
    CHECK(calls == Calls{"write 1+2", "write 9+1", "flush"});
    calls.clear();
  }
  cached.disk.error_of = nullptr;
  CHECK(write(client, 2 * BLOCK + 5, 1, 8) == 0);
  CHECK(flush(client) == 0);
  CHECK(calls == Calls{"write 1+1", "write 2+1", "write 9+1", "flush"});
  CHECK(cached.disk.bytes[2 * BLOCK + 5] == 8);
  calls.clear();
  CHECK(flush(client) == 0);
  CHECK(calls == Calls{"flush"});
}

TEST_CASE("one block that cannot be written back does not make others be written twice") {
  Cached cached(WRITEBACK);
  Calls calls;
  Backend &client = cached.connect(std::make_unique<NotedBackend>(cached.disk, calls));
  CHECK(write(client, BLOCK, BLOCK, 7) == 0);
  CHECK(write(client, 9 * BLOCK, BLOCK, 7) == 0);
  cached.disk.error_of = [](const Request &request) {
    return request.type == wire::NBD_CMD_WRITE && request.offset == BLOCK ? EIO : 0;
  };
  CHECK(flush(client) == EIO);
  calls.clear();
  CHECK(flush(client) == EIO);
  CHECK(calls == Calls{"write 1+1", "flush"});
}

TEST_CASE("a flush succeeds only once another flush's write-back is durable") {
  for (const bool can_multi_conn : {true, false})
    for (const int outcome : {0, EIO}) {
      CAPTURE(can_multi_conn);
      CAPTURE(outcome);
      Cached cached(WRITEBACK);
      HeldBackend::Held held_one;
      HeldBackend::Held held_other;
      HeldBackend answerer(cached.disk, held_one);
      Backend &one =
          cached.connect(std::make_unique<HeldBackend>(cached.disk, held_one, can_multi_conn));
      Backend &other =
          cached.connect(std::make_unique<HeldBackend>(cached.disk, held_other, can_multi_conn));
      CHECK(write(one, 0, BLOCK, 1) == 0);
      TestRequest first(wire::NBD_CMD_FLUSH, 0, 0);
      TestRequest second(wire::NBD_CMD_FLUSH, 0, 0);
      one.submit(first, Caller::may_block);
      answerer.answer(*held_one.take());
      Request *below = held_one.take();
      CHECK(below->type == wire::NBD_CMD_FLUSH);
      other.submit(second, Caller::may_block);
      CHECK_FALSE(second.is_done());
      CHECK(held_other.requests.empty());
      below->complete(outcome);
      CHECK(first.wait() == outcome);
      Request *next = held_other.take();
      if (outcome != 0) {
        CHECK(next->type == wire::NBD_CMD_WRITE);
        answerer.answer(*next);
        next = held_other.take();
      }
      CHECK(next->type == wire::NBD_CMD_FLUSH);
      answerer.answer(*next);
      CHECK(second.wait() == 0);
    }
}

TEST_CASE("a block written during its flush is written back by the next flush") {
  Cached cached(WRITEBACK);
  HeldBackend::Held held;
  HeldBackend answerer(cached.disk, held);
  Backend &client = cached.connect(std::make_unique<HeldBackend>(cached.disk, held));
  CHECK(write(client, 0, 2 * BLOCK, 1) == 0);
  TestRequest first(wire::NBD_CMD_FLUSH, 0, 0);
  client.submit(first, Caller::may_block);
  answerer.answer(*held.take());
  Request *below = held.take();
  CHECK(write(client, BLOCK, 10, 2) == 0);
  answerer.answer(*below);
  CHECK(first.wait() == 0);
  TestRequest second(wire::NBD_CMD_FLUSH, 0, 0);
  client.submit(second, Caller::may_block);
  Request *again = held.take();
  CHECK(again->type == wire::NBD_CMD_WRITE);
  CHECK(again->offset == BLOCK);
  CHECK(again->length_bytes == BLOCK);
  answerer.answer(*again);
  answerer.answer(*held.take());
  CHECK(second.wait() == 0);
  CHECK(cached.disk.bytes[BLOCK] == 2);
}

TEST_CASE(
    "a flush that waits for another client's flush can be given up at once, and others go on") {
  Cached cached(WRITEBACK);
  HeldBackend::Held held;
  HeldBackend answerer(cached.disk, held);
  Backend &one = cached.connect(std::make_unique<HeldBackend>(cached.disk, held));
  Backend &other = cached.connect();
  Backend &third = cached.connect();
  CHECK(write(one, 0, BLOCK, 1) == 0);
  TestRequest first(wire::NBD_CMD_FLUSH, 0, 0);
  TestRequest waiting(wire::NBD_CMD_FLUSH, 0, 0);
  TestRequest behind(wire::NBD_CMD_FLUSH, 0, 0);
  one.submit(first, Caller::may_block);
  Request *writing = held.take();
  other.submit(waiting, Caller::may_block);
  third.submit(behind, Caller::may_block);
  other.give_up_unanswered();
  CHECK(waiting.wait() == ESHUTDOWN);
  CHECK_FALSE(waiting.was_given_up);
  CHECK_FALSE(behind.is_done());
  answerer.answer(*writing);
  answerer.answer(*held.take());
  CHECK(first.wait() == 0);
  CHECK(behind.wait() == 0);
}

TEST_CASE("a write-back that is given up keeps its block locked until it ends, and is repeated") {
  Cached cached(WRITEBACK);
  HeldBackend::Held held_one;
  HeldBackend::Held held_other;
  HeldBackend answerer(cached.disk, held_other);
  Backend &one = cached.connect(std::make_unique<HeldBackend>(cached.disk, held_one));
  Backend &other = cached.connect(std::make_unique<HeldBackend>(cached.disk, held_other));
  CHECK(write(one, 0, BLOCK, 1) == 0);
  TestRequest stuck(wire::NBD_CMD_FLUSH, 0, 0);
  TestRequest waiting(wire::NBD_CMD_WRITE, 0, 1, 5);
  waiting.flags = wire::NBD_CMD_FLAG_FUA;
  TestRequest behind(wire::NBD_CMD_FLUSH, 0, 0);
  one.submit(stuck, Caller::may_block);
  one.submit(waiting, Caller::may_block);
  other.submit(behind, Caller::may_block);
  Request *child = held_one.take();
  CHECK_FALSE(child->completers.maker().client_has_gone()); // it is for all
  held_one.gate.change([&] { held_one.requests.push_back(child); });
  one.give_up_unanswered();
  CHECK(stuck.wait() == ESHUTDOWN);
  CHECK(waiting.wait() == ESHUTDOWN);
  CHECK(stuck.was_given_up);
  CHECK_FALSE(waiting.was_given_up);
  CHECK(held_other.requests.empty());
  child->completers.maker().release(*child); // the late reply
  CHECK(stuck.is_released);
  answerer.answer(*held_other.take());
  answerer.answer(*held_other.take());
  CHECK(behind.wait() == 0);
  CHECK(cached.disk.bytes[0] == 1);
}

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
