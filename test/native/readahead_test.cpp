// The readahead filter in front of a disk in memory: what it asks to be cached, and when it stops.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "filter_front.hpp"
#include "filters/read_streams.hpp"
#include "held_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;
using filters::AheadRange;
using filters::ReadStreams;

namespace {

constexpr uint64_t KIB = 1024;
constexpr uint64_t MIB = 1024 * KIB;
constexpr uint64_t SIZE = 64 * MIB;

// What reads of this size, one after the other, have asked for.
uint64_t read_in_order(ReadStreams &streams, uint64_t from, uint64_t to, uint64_t bytes) {
  uint64_t asked_bytes = 0;
  uint64_t asked_until = from;
  for (uint64_t at = from; at < to; at += bytes) {
    const AheadRange range = streams.on_read(at, bytes, SIZE);
    if (range.begin == range.end)
      continue;
    CHECK(range.begin >= std::min(asked_until, at + bytes));
    CHECK(range.begin % ReadStreams::UNIT_BYTES == 0);
    CHECK(range.end <= at + bytes + ReadStreams::MAX_AHEAD_BYTES);
    asked_bytes += range.end - range.begin;
    asked_until = range.end;
  }
  return asked_bytes;
}

// Keeps what is to be cached, and answers the rest at once.
class CachingBackend final : public MemoryBackend {
public:
  CachingBackend(MemoryDisk &disk, Support cache, std::vector<Request *> &held)
      : MemoryBackend(disk), held_(held) {
    told_.cache = cache;
  }
  Reservation reserve(Request &) override { return {}; }
  void submit(Request &request, Caller caller) override {
    if (request.type == NBD_CMD_CACHE) {
      CHECK(caller == Caller::must_not_block);
      held_.push_back(&request);
    } else {
      MemoryBackend::submit(request, caller);
    }
  }
  void give_up_unanswered() override {
    std::vector<Request *> unanswered;
    unanswered.swap(held_);
    for (Request *request : unanswered) {
      request->give_up(ESHUTDOWN);
      given_up.push_back(request);
    }
  }

  static inline std::vector<Request *> given_up; // and not released yet

private:
  std::vector<Request *> &held_;
};

struct Readahead : FilterFront {
  std::vector<Request *> held;

  Readahead() : FilterFront("readahead", {}, SIZE) {}
  Backend &open(Support cache = Support::native) {
    return connect(std::make_unique<CachingBackend>(disk, cache, held));
  }
  void answer_all() {
    std::vector<Request *> asked;
    asked.swap(held);
    for (Request *request : asked)
      request->complete(0);
  }
};

} // namespace

TEST_CASE("sequential reads are read ahead, more and more, with little too much") {
  for (const uint64_t bytes : {4 * KIB, 64 * KIB, 100 * KIB, MIB}) {
    ReadStreams streams;
    const uint64_t asked = read_in_order(streams, 0, 16 * MIB, bytes);
    CHECK(asked >= 13 * MIB);
    CHECK(asked <= 16 * MIB * 12 / 10);
  }
}

TEST_CASE("random reads cause no readahead") {
  ReadStreams streams;
  std::mt19937 random(1);
  uint64_t asked = 0;
  for (int i = 0; i < 100'000; i++) {
    const AheadRange range = streams.on_read(random() % (SIZE / 4096) * 4096, 4096, SIZE);
    asked += range.end - range.begin;
  }
  CHECK(asked < 100'000 * uint64_t{4096} / 100);
}

TEST_CASE("readahead serves several readers at once, even with requests out of order") {
  ReadStreams streams;
  uint64_t asked = 0;
  for (uint64_t at = 0; at < 4 * MIB; at += 64 * KIB)
    for (uint64_t reader = 0; reader < 4; reader++) {
      const AheadRange range = streams.on_read(reader * 16 * MIB + (at ^ 64 * KIB), 64 * KIB, SIZE);
      asked += range.end - range.begin;
    }
  CHECK(asked >= 14 * MIB);
  CHECK(asked <= 16 * MIB * 12 / 10);
}

TEST_CASE("readahead for reads with gaps reads no more than they do") {
  ReadStreams streams;
  uint64_t asked = 0;
  uint64_t used = 0;
  for (uint64_t at = 0; at < SIZE; at += 256 * KIB) {
    const AheadRange range = streams.on_read(at, 4 * KIB, SIZE);
    asked += range.end - range.begin;
    used += 4 * KIB;
  }
  CHECK(asked <= used + used / 8 + ReadStreams::UNIT_BYTES);
}

TEST_CASE("readahead stops at the end of the disk") {
  ReadStreams streams;
  uint64_t end = 0;
  for (uint64_t at = 0; at < MIB; at += 64 * KIB)
    end = std::max(end, streams.on_read(at, 64 * KIB, MIB + 100).end);
  CHECK(end == MIB + 100);
}

TEST_CASE("readahead uses a few requests of its own") {
  Readahead front;
  Backend &client = front.open();
  for (uint64_t at = 0; at < 48 * MIB; at += 256 * KIB)
    CHECK(run(client, NBD_CMD_READ, at, 256 * KIB) == 0);
  CHECK(front.held.size() == 16);
  for (const Request *request : front.held) {
    CHECK(request->length_bytes <= 256 * KIB);
    CHECK(request->offset / (256 * KIB) ==
          (request->offset + request->length_bytes - 1) / (256 * KIB));
  }
  front.answer_all();
  CHECK(run(client, NBD_CMD_READ, 48 * MIB, 256 * KIB) == 0);
  CHECK(front.held.size() == 16);
  CHECK(front.held[0]->offset >= 48 * MIB); // what has been read since is not asked for
  front.answer_all();
  client.close();
}

TEST_CASE("closing waits for readahead in flight, which is given up") {
  Readahead front;
  Backend &client = front.open();
  for (uint64_t at = 0; at < 4 * MIB; at += 256 * KIB)
    CHECK(run(client, NBD_CMD_READ, at, 256 * KIB) == 0);
  REQUIRE(!front.held.empty());
  CHECK_FALSE(front.held[0]->completers.maker().client_has_gone());
  client.on_client_gone();
  CHECK(front.held[0]->completers.maker().client_has_gone());
  const size_t asked = front.held.size();
  CHECK(run(client, NBD_CMD_READ, 4 * MIB, 256 * KIB) == 0);
  CHECK(front.held.size() == asked);
  client.give_up_unanswered();
  client.close();
  front.clients.clear();
  CHECK(CachingBackend::given_up.size() == asked);
  for (Request *request : CachingBackend::given_up) // which the plugin has used until now
    request->completers.maker().release(*request);
}

TEST_CASE("a late reply may come before its request is given up") {
  Readahead front;
  Backend &client = front.open();
  for (uint64_t at = 0; at < MIB; at += 256 * KIB)
    CHECK(run(client, NBD_CMD_READ, at, 256 * KIB) == 0);
  std::vector<Request *> late;
  late.swap(front.held);
  REQUIRE(!late.empty());
  for (Request *request : late)
    request->completers.maker().release(*request);
  for (Request *request : late)
    request->give_up(ESHUTDOWN);
  client.close(); // does not wait any more
  front.clients.clear();
}

TEST_CASE("closing unused gives up readahead in flight without waiting") {
  Readahead front;
  Backend &client = front.open();
  for (uint64_t at = 0; at < MIB; at += 256 * KIB)
    CHECK(run(client, NBD_CMD_READ, at, 256 * KIB) == 0);
  const std::vector<Request *> asked = front.held;
  REQUIRE(!asked.empty());
  const auto begun = std::chrono::steady_clock::now();
  client.close_unused();
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(1));
  CHECK(front.held.empty()); // given up
  front.clients.clear();
  for (Request *request : asked)
    request->completers.maker().release(*request);
}

TEST_CASE("without caching below there is no readahead") {
  Readahead front;
  for (const Support cache : {Support::none, Support::emulate}) {
    Backend &client = front.open(cache);
    CHECK(client.facts().cache == cache);
    for (uint64_t at = 0; at < 4 * MIB; at += 256 * KIB)
      CHECK(run(client, NBD_CMD_READ, at, 256 * KIB) == 0);
    CHECK(front.held.empty());
  }
}
