// The filter stats by itself: what it counts, and the text that it makes of that.
#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <string>

#include "filter_fixture.hpp"
#include "filters/request_counters.hpp"
#include "filters/stats_text.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterFixture;

namespace {

constexpr uint32_t BLOCK_BYTES = 4096;

// Counters that a test looks at, and the filter that counts.
struct Counted : FilterFixture {
  std::shared_ptr<filters::RequestCounters> counters = std::make_shared<filters::RequestCounters>();
  std::unique_ptr<Filter> filter = make("stats", {{"counters", counters}});
};

} // namespace

TEST_CASE("stats counts successes and failures with bytes and times") {
  Counted counted;
  REQUIRE(counted.filter);
  auto layer = counted.open(*counted.filter);
  counted.disk.error_of = [&](Request &request) {
    counted.clock.advance(std::chrono::microseconds(request.offset == 0 ? 10 : 1000));
    return request.offset == 0 ? 0 : EIO;
  };
  for (unsigned i = 0; i < 3; i++)
    CHECK(TestRequest(wire::NBD_CMD_WRITE, 0, BLOCK_BYTES).run(*layer) == 0);
  CHECK(TestRequest(wire::NBD_CMD_WRITE, BLOCK_BYTES, 512).run(*layer) == EIO);
  const filters::KindCounts writes = counted.counters->of(wire::NBD_CMD_WRITE);
  CHECK(writes.done == 3);
  CHECK(writes.failed == 1);
  CHECK(writes.bytes == 3 * BLOCK_BYTES);
  CHECK(writes.done_ns == 30'000);
  CHECK(writes.failed_ns == 1'000'000);
  CHECK(writes.latencies.longest_ns == 1'000'000);
  CHECK(writes.latencies.percentile_ns(50) >= 10'000);
  CHECK(writes.latencies.percentile_ns(50) <= 11'250); // an eighth more
  CHECK(writes.latencies.percentile_ns(75) == writes.latencies.percentile_ns(50));
  CHECK(writes.latencies.percentile_ns(76) == 1'000'000);
  CHECK(counted.counters->of(wire::NBD_CMD_READ).requests() == 0);
}

TEST_CASE("a read that a reservation answers is counted once, whether it is submitted or not") {
  Counted counted;
  auto layer = counted.open(*counted.filter);
  auto *emulation = layer.get();
  TestRequest answered(wire::NBD_CMD_READ, 0, BLOCK_BYTES);
  CHECK(emulation->reserve(answered).data == counted.disk.bytes.data());
  CHECK(counted.counters->of(wire::NBD_CMD_READ).done == 1);
  answered.is_reserved = true;
  CHECK(answered.run(*layer) == 0);
  CHECK(counted.counters->of(wire::NBD_CMD_READ).done == 1);
  CHECK(counted.counters->of(wire::NBD_CMD_READ).bytes == BLOCK_BYTES);
  // A write may still fail.
  TestRequest write(wire::NBD_CMD_WRITE, 0, BLOCK_BYTES);
  CHECK(layer->reserve(write).data == counted.disk.bytes.data());
  CHECK(counted.counters->of(wire::NBD_CMD_WRITE).done == 0);
  layer->unreserve(write);
}

TEST_CASE("reported times are at most an eighth too long") {
  TestRequest flush(wire::NBD_CMD_FLUSH, 0, 0);
  for (unsigned shift = 0; shift < 62; shift++)
    for (const int64_t more : {0, 1}) {
      const int64_t ns = (int64_t{1} << shift) + more;
      filters::RequestCounters counters;
      counters.record(counters.next_place(), flush, 0, std::chrono::nanoseconds(ns));
      counters.record(counters.next_place(), flush, 0, std::chrono::nanoseconds(INT64_MAX));
      const uint64_t told = counters.of(wire::NBD_CMD_FLUSH).latencies.percentile_ns(50);
      CHECK(told >= static_cast<uint64_t>(ns));
      CHECK(told <= static_cast<uint64_t>(ns) + static_cast<uint64_t>(ns) / 8);
    }
}

TEST_CASE("the text of stats has a line for each kind, and sizes up to a share of the requests") {
  filters::RequestCounters counters;
  counters.count_sizes();
  auto record = [&](uint16_t type, uint64_t offset, uint64_t bytes, int error = 0) {
    counters.record(0, TestRequest(type, offset, bytes), error, std::chrono::milliseconds(10));
  };
  for (unsigned i = 0; i < 6; i++)
    record(wire::NBD_CMD_READ, i * 4096, 4096);
  for (unsigned i = 0; i < 3; i++)
    record(wire::NBD_CMD_READ, 0, 512);
  record(wire::NBD_CMD_READ, 0, 1, EIO);
  record(wire::NBD_CMD_READ, 3, 1 << 20);
  record(wire::NBD_CMD_FLUSH, 0, 0);
  record(wire::NBD_CMD_CACHE, 0, 512);
  CHECK(filters::stats_text(counters, std::chrono::seconds(2), 0.9) ==
        R"(total: 11 ops, 2.000000 s, 1.02 MiB, 524.75 KiB/s
read: 10 ops, 0.100000 s, 1.02 MiB, 10.25 MiB/s op, 524.75 KiB/s total
  Request size and alignment breakdown:
    12 bits: 60.0% (6 reqs, 24.00 KiB total)
         12 bit aligned: 100.0% (6)
         13 bit aligned:  50.0% (3)
         14 bit aligned:  33.3% (2)
     9 bits: 30.0% (3 reqs, 1.50 KiB total)
    other sizes: 10.0% (1 reqs, 1.00 MiB total)

cache: 1 ops, 0.010000 s, 512 bytes, 50.00 KiB/s op, 256 bytes/s total
  Request size and alignment breakdown:
    other sizes: 100.0% (1 reqs, 512 bytes total)

flush: 1 ops, 0.010000 s, 0 bytes, 0 bytes/s op, 0 bytes/s total
)");
  CHECK(filters::stats_text(counters, std::chrono::seconds(2), 0).find("bits") ==
        std::string::npos);
}
