// Each native filter by itself, in front of a disk in memory.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <deque>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "filters/registry.hpp"
#include "filters/request_counters.hpp"
#include "filters/stats_text.hpp"
#include "held_backend.hpp"
#include "memory_backend.hpp"
#include "prepare.hpp"
#include "simulated_resources.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterOptions;

namespace {

struct Fixture : SimulatedResources {
  MemoryDisk disk{1 << 20};
  TestClient client;
  std::string error;

  std::unique_ptr<Filter> make(const char *name, const FilterOptions &options = {}) {
    error.clear();
    return filters::make_filter(name, options, resources, &error);
  }
  std::unique_ptr<Backend> open(Filter &filter) {
    std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(disk);
    prepare(*below);
    std::unique_ptr<Backend> layer = filter.open(&below, client.opening(), nullptr, &error);
    REQUIRE(layer);
    prepare(*layer);
    return layer;
  }
};

} // namespace

TEST_CASE("a filter that is not there, and an option that it has not got, are refused") {
  Fixture fixture;
  CHECK(fixture.make("frobnicate") == nullptr);
  CHECK(fixture.error.find("frobnicate") != std::string::npos);
  CHECK(fixture.make("readonly", {{"sometimes", true}}) == nullptr);
  CHECK(fixture.error.find("sometimes") != std::string::npos);
}

TEST_CASE("behind readonly nothing is written, and reads pass with their reservations") {
  Fixture fixture;
  auto filter = fixture.make("readonly");
  REQUIRE(filter);
  CHECK(filter->opens_readonly(false));
  auto layer = fixture.open(*filter);
  REQUIRE(layer);
  CHECK_FALSE(layer->facts().can_write);
  CHECK_FALSE(layer->facts().can_trim);
  CHECK(layer->facts().zero == Support::none);
  CHECK(layer->facts().size_bytes == fixture.disk.bytes.size());

  fixture.disk.bytes[4096] = 7;
  TestRequest read(wire::NBD_CMD_READ, 4096, 512);
  CHECK(layer->reserve(read).data == &fixture.disk.bytes[4096]);
  CHECK(read.run(*layer) == 0);
  CHECK(read.content[0] == 7);
  for (uint16_t type : {wire::NBD_CMD_WRITE, wire::NBD_CMD_TRIM, wire::NBD_CMD_WRITE_ZEROES}) {
    TestRequest refused(type, 4096, 512);
    CHECK(layer->reserve(refused).data == nullptr);
    CHECK(refused.run(*layer) == EROFS);
  }
  CHECK(fixture.disk.bytes[4096] == 7);
  CHECK(fixture.disk.submitted == 1);
  layer->close();
}

namespace {

// A delay in front of the disk, as one client has it.
struct Delayed : Fixture {
  std::unique_ptr<Filter> filter;
  std::unique_ptr<Backend> layer;

  explicit Delayed(const FilterOptions &options) {
    filter = make("delay", options);
    REQUIRE(filter);
    layer = open(*filter);
  }
  void pass(std::chrono::milliseconds time) {
    clock.advance(time);
    timers.run_due();
  }
};

} // namespace

TEST_CASE("a delayed request is passed on when its time has come, not before") {
  Delayed delayed({{"readMs", 10.0}, {"writeMs", 30.0}});
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  TestRequest write(wire::NBD_CMD_WRITE, 0, 512, 9);
  CHECK(delayed.layer->reserve(read).data == nullptr);
  CHECK(delayed.layer->reserve(write).data == nullptr);
  CHECK(delayed.layer->bytes_besides(wire::NBD_CMD_READ, 512) > 0);
  delayed.layer->submit(read, Caller::may_block);
  delayed.layer->submit(write, Caller::may_block);
  delayed.pass(std::chrono::milliseconds(9));
  CHECK(delayed.disk.submitted == 0);
  delayed.pass(std::chrono::milliseconds(1));
  CHECK(read.wait() == 0);
  CHECK_FALSE(write.is_done());
  delayed.pass(std::chrono::milliseconds(20));
  CHECK(write.wait() == 0);
  CHECK(delayed.disk.bytes[511] == 9);
}

TEST_CASE("what is not delayed passes on at once, reservation and all") {
  Delayed delayed({{"writeMs", 30.0}});
  TestRequest read(wire::NBD_CMD_READ, 4096, 512);
  CHECK(delayed.layer->reserve(read).data == &delayed.disk.bytes[4096]);
  CHECK(delayed.layer->bytes_besides(wire::NBD_CMD_READ, 512) == 0);
  CHECK(read.run(*delayed.layer) == 0);
  CHECK(delayed.timers.size() == 0);
}

TEST_CASE("a fast zero that need not wait is refused at once") {
  Delayed delayed({{"zeroMs", 30.0}, {"fastZero", false}});
  TestRequest fast(wire::NBD_CMD_WRITE_ZEROES, 0, 512);
  fast.flags = wire::NBD_CMD_FLAG_FAST_ZERO;
  CHECK(fast.run(*delayed.layer) == ENOTSUP);
  TestRequest slow(wire::NBD_CMD_WRITE_ZEROES, 0, 512);
  delayed.layer->submit(slow, Caller::may_block);
  CHECK_FALSE(slow.is_done());
  delayed.pass(std::chrono::milliseconds(30));
  CHECK(slow.wait() == 0);
  // Where zeroing takes no time, there is nothing to refuse.
  Delayed at_once({{"fastZero", false}});
  fast.result.reset();
  CHECK(fast.run(*at_once.layer) == 0);
}

TEST_CASE("what waits when nobody waits for it any more fails at once and for good") {
  using End = void (Backend::*)();
  for (const End end :
       {&Backend::give_up_unanswered, &Backend::on_client_gone, &Backend::on_server_stopping}) {
    Delayed delayed({{"readMs", 10.0}});
    TestRequest waiting(wire::NBD_CMD_READ, 0, 512);
    delayed.layer->submit(waiting, Caller::may_block);
    ((*delayed.layer).*end)();
    CHECK(waiting.wait() == ESHUTDOWN);
    // A layer in front may have had it waiting, too.
    TestRequest late(wire::NBD_CMD_READ, 0, 512);
    CHECK(late.run(*delayed.layer) == ESHUTDOWN);
    CHECK(delayed.timers.size() == 0);
    CHECK(delayed.disk.submitted == 0);
  }
}

TEST_CASE("a thousand requests wait without a thread more") {
  Delayed delayed({{"readMs", 64.0}});
  std::deque<TestRequest> requests;
  for (unsigned round = 0; round < 3; round++) {
    requests.clear();
    for (unsigned i = 0; i < 1024; i++)
      delayed.layer->submit(requests.emplace_back(wire::NBD_CMD_READ, i * 512, 512),
                            Caller::may_block);
    CHECK(delayed.timers.size() == 1024);
    delayed.pass(std::chrono::milliseconds(64));
    for (TestRequest &request : requests)
      CHECK(request.wait() == 0);
  }
  CHECK(delayed.threads.tasks.empty());
  CHECK(delayed.threads.started_tasks.size() == 1); // the timers'
}

TEST_CASE("options that are no whole numbers of milliseconds are refused") {
  Fixture fixture;
  CHECK(fixture.make("delay", {{"readMs", -1.0}}) == nullptr);
  CHECK(fixture.make("delay", {{"readMs", 0.5}}) == nullptr);
  CHECK(fixture.make("delay", {{"readMs", std::string("10")}}) == nullptr);
  CHECK(fixture.error.find("readMs") != std::string::npos);
}

TEST_CASE(
    "what is to fail fails before it is below, with its error, its words and no reservation") {
  Fixture fixture;
  auto filter = fixture.make("error", {{"pwriteRate", 1.0}, {"pwriteCode", std::string("ENOSPC")}});
  REQUIRE(filter);
  auto layer = fixture.open(*filter);
  TestRequest write(wire::NBD_CMD_WRITE, 0, 512, 9);
  CHECK(layer->reserve(write).data == nullptr);
  CHECK(write.run(*layer) == ENOSPC);
  CHECK(write.extras->error_text == "injecting ENOSPC error into pwrite");
  CHECK(fixture.disk.submitted == 0);
  // Others pass on as they are.
  TestRequest read(wire::NBD_CMD_READ, 4096, 512);
  CHECK(layer->reserve(read).data == &fixture.disk.bytes[4096]);
  CHECK(read.run(*layer) == 0);
}

TEST_CASE("about as many requests fail as are to, in no order") {
  Fixture fixture;
  auto filter = fixture.make("error", {{"preadRate", 0.25}});
  auto layer = fixture.open(*filter);
  constexpr unsigned TRIES = 4000;
  unsigned failed = 0;
  unsigned changes = 0;
  int last = 0;
  for (unsigned i = 0; i < TRIES; i++) {
    TestRequest read(wire::NBD_CMD_READ, 0, 1);
    const int error = read.run(*layer);
    failed += error == EIO;
    changes += error != last;
    last = error;
  }
  CHECK(failed > TRIES / 5); // six standard deviations off
  CHECK(failed < TRIES * 3 / 10);
  CHECK(changes > TRIES / 4); // 3/8 of them, were each thrown for itself
}

TEST_CASE("where nothing can fail, there is no layer") {
  Fixture fixture;
  auto filter = fixture.make("error", {{"preadRate", 0.0}, {"pwriteCode", std::string("EPERM")}});
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  Backend *const was_below = below.get();
  auto layer = filter->open(&below, fixture.client.opening(), nullptr, &fixture.error);
  CHECK(layer.get() == was_below);
}

TEST_CASE("rates and codes that are none are refused") {
  Fixture fixture;
  CHECK(fixture.make("error", {{"preadRate", 1.5}}) == nullptr);
  CHECK(fixture.make("error", {{"preadCode", std::string("EFROBNICATE")}}) == nullptr);
  CHECK(fixture.error.find("preadCode") != std::string::npos);
}

namespace {

// A rate in front of the disk, as clients have it.
struct Slow : Fixture {
  std::unique_ptr<Filter> filter;
  std::unique_ptr<Backend> layer;
  std::unique_ptr<Backend> other;

  explicit Slow(const FilterOptions &options) {
    filter = make("rate", options);
    REQUIRE(filter);
    layer = open(*filter);
    other = open(*filter);
  }
  void pass(std::chrono::milliseconds time) {
    clock.advance(time);
    timers.run_due();
  }
};

constexpr double BITS = 8 * 1000 * 100; // 100 bytes a millisecond

} // namespace

TEST_CASE("what is more than a burst waits until the bits have come, without a thread") {
  Slow slow({{"bits", BITS}, {"burstSeconds", 0.01}}); // 1000 bytes
  CHECK(TestRequest(wire::NBD_CMD_WRITE, 0, 1000, 9).run(*slow.layer) == 0);
  TestRequest waiting(wire::NBD_CMD_WRITE, 0, 500, 8);
  CHECK(slow.layer->reserve(waiting).data == nullptr);
  slow.layer->submit(waiting, Caller::may_block);
  slow.pass(std::chrono::milliseconds(4));
  CHECK_FALSE(waiting.is_done());
  CHECK(slow.disk.bytes[0] == 9);
  slow.pass(std::chrono::milliseconds(1));
  CHECK(waiting.wait() == 0);
  CHECK(slow.disk.bytes[0] == 8);
  CHECK(slow.threads.tasks.empty());
  // Reads have bits of their own, and all else needs none.
  TestRequest read(wire::NBD_CMD_READ, 0, 1000);
  CHECK(read.run(*slow.layer) == 0);
  TestRequest trim(wire::NBD_CMD_TRIM, 0, 1 << 20);
  CHECK(trim.run(*slow.layer) == 0);
}

TEST_CASE("what may be read at once is read in place, and its bits are taken once") {
  Slow slow({{"bits", BITS}, {"connectionBits", BITS}, {"burstSeconds", 0.01}}); // 1000 bytes
  TestRequest read(wire::NBD_CMD_READ, 0, 600);
  CHECK(slow.layer->reserve(read).data == slow.disk.bytes.data());
  read.is_reserved = true;
  CHECK(read.run(*slow.layer) == 0);
  TestRequest large(wire::NBD_CMD_READ, 0, 500);
  CHECK(slow.layer->reserve(large).data == nullptr);
  TestRequest rest(wire::NBD_CMD_READ, 0, 400);
  CHECK(slow.layer->reserve(rest).data == slow.disk.bytes.data());
  TestRequest byte(wire::NBD_CMD_READ, 0, 1);
  CHECK(slow.layer->reserve(byte).data == nullptr);
  // Of what one limit has and the other has not, neither is charged.
  slow.pass(std::chrono::milliseconds(5));
  CHECK(TestRequest(wire::NBD_CMD_READ, 0, 400).run(*slow.other) == 0);
  CHECK(slow.layer->reserve(rest).data == nullptr);
  TestRequest little(wire::NBD_CMD_READ, 0, 100);
  CHECK(slow.layer->reserve(little).data == slow.disk.bytes.data());
}

TEST_CASE("a request of more bits than a burst has takes as long as they take to come") {
  Slow slow({{"bits", BITS}, {"burstSeconds", 0.01}});
  TestRequest large(wire::NBD_CMD_READ, 0, 1000 + 10000);
  slow.layer->submit(large, Caller::may_block);
  for (unsigned i = 0; i < 99; i++)
    slow.pass(std::chrono::milliseconds(1));
  CHECK_FALSE(large.is_done());
  slow.pass(std::chrono::milliseconds(2)); // one for fractions of a bit
  CHECK(large.wait() == 0);
}

TEST_CASE("all clients share one rate, and each has one of its own") {
  Slow shared({{"bits", BITS}, {"burstSeconds", 0.01}});
  TestRequest first(wire::NBD_CMD_READ, 0, 1000);
  CHECK(first.run(*shared.layer) == 0);
  TestRequest second(wire::NBD_CMD_READ, 0, 1000);
  shared.other->submit(second, Caller::may_block);
  CHECK_FALSE(second.is_done());
  shared.pass(std::chrono::milliseconds(11));
  CHECK(second.wait() == 0);

  Slow own({{"connectionBits", BITS}, {"burstSeconds", 0.01}});
  TestRequest of_one(wire::NBD_CMD_READ, 0, 1000);
  TestRequest of_other(wire::NBD_CMD_READ, 0, 1000);
  CHECK(of_one.run(*own.layer) == 0);
  CHECK(of_other.run(*own.other) == 0);
  TestRequest more(wire::NBD_CMD_READ, 0, 1);
  own.layer->submit(more, Caller::may_block);
  CHECK_FALSE(more.is_done());
  own.layer->give_up_unanswered();
  CHECK(more.wait() == ESHUTDOWN);
}

TEST_CASE("without a limit there is no layer, and wrong limits are refused") {
  Fixture fixture;
  auto filter = fixture.make("rate", {{"burstSeconds", 2.0}});
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  Backend *const was_below = below.get();
  CHECK(filter->open(&below, fixture.client.opening(), nullptr, &fixture.error).get() == was_below);
  CHECK(fixture.make("rate", {{"bits", -1.0}}) == nullptr);
  CHECK(fixture.make("rate", {{"burstSeconds", 0.0}}) == nullptr);
}

// ---- work that takes long
// ------------------------------------------------------------------------

namespace {

constexpr uint64_t HUGE_BYTES = uint64_t{1} << 30;

// Comes after another one, and is perhaps answered before it.
struct LaterRequest final : TestRequest {
  explicit LaterRequest(TestRequest &earlier)
      : TestRequest(wire::NBD_CMD_WRITE, HUGE_BYTES - (64 << 10), 64 << 10, 7), other(earlier) {}
  void complete(Request &request, int error) override {
    was_first = !other.is_done();
    TestRequest::complete(request, error);
  }

  TestRequest &other;
  bool was_first = false;
};

// Says that it is larger than the memory it has: nothing is asked of it.
struct HugeBackend final : MemoryBackend {
  explicit HugeBackend(MemoryDisk &disk) : MemoryBackend(disk) { told_.size_bytes = HUGE_BYTES; }
};

} // namespace

TEST_CASE("a long zeroing leaves its thread to others, and ends with its client") {
  for (const char *name : {"cow", "cache"})
    for (const bool has_gone : {false, true}) {
      CAPTURE(name);
      Fixture fixture;
      auto filter = fixture.make(name, std::string(name) == "cow"
                                           ? FilterOptions{}
                                           : FilterOptions{{"mode", std::string("writeback")}});
      REQUIRE(filter);
      std::unique_ptr<Backend> below = std::make_unique<HugeBackend>(fixture.disk);
      prepare(*below);
      auto state = filter->new_disk(below->facts(), &fixture.error);
      REQUIRE(state);
      auto layer = filter->open(&below, fixture.client.opening(), state.get(), &fixture.error);
      REQUIRE(layer);
      prepare(*layer);
      TestRequest zeroing(wire::NBD_CMD_WRITE_ZEROES, 0, 256 << 20);
      zeroing.flags = wire::NBD_CMD_FLAG_NO_HOLE;
      layer->submit(zeroing, Caller::may_block);
      CHECK_FALSE(zeroing.is_done());
      LaterRequest write(zeroing);
      layer->submit(write, Caller::must_not_block);
      zeroing.has_gone = has_gone;
      while (fixture.threads.run_one()) {
      }
      CHECK(zeroing.wait() == (has_gone ? ESHUTDOWN : 0));
      CHECK(write.wait() == 0);
      CHECK(write.was_first != has_gone);
      layer->close();
    }
}

TEST_CASE("scripts run a few at once, and each request waits for its own") {
  Fixture fixture;
  auto filter = fixture.make("log", {{"script", std::string("true")}});
  REQUIRE(filter);
  // Not prepared: the line about that would wait for a thread.
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  auto layer = filter->open(&below, fixture.client.opening(), nullptr, &fixture.error);
  std::deque<TestRequest> reads;
  for (int i = 0; i < 24; i++)
    layer->submit(reads.emplace_back(wire::NBD_CMD_READ, 0, 512), Caller::may_block);
  CHECK(fixture.threads.tasks.size() == 16);
  CHECK(fixture.disk.submitted == 0);
  while (fixture.threads.run_one()) {
  }
  for (TestRequest &read : reads)
    CHECK(read.wait() == 0);
  layer->close();
}

namespace {

// A pipe in a directory of its own.
struct NamedPipe {
  std::string directory = "/tmp/asyncnbd-test-XXXXXX";
  std::string path;
  int fd = -1;

  NamedPipe() {
    REQUIRE(mkdtemp(directory.data()) != nullptr);
    path = directory + "/pipe";
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    fd = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(fd != -1);
  }
  ~NamedPipe() {
    close(fd);
    unlink(path.c_str());
    rmdir(directory.c_str());
  }
  std::string read_all() const {
    std::string text(4096, 0);
    const ssize_t bytes = read(fd, text.data(), text.size());
    text.resize(bytes < 0 ? 0 : static_cast<size_t>(bytes));
    return text;
  }
};

} // namespace

TEST_CASE("nobody but its own thread waits for who reads a log that is a pipe") {
  Fixture fixture;
  const NamedPipe pipe;
  auto filter = fixture.make("log", {{"file", pipe.path}});
  REQUIRE(filter);
  HeldBackend::Held held;
  std::unique_ptr<Backend> below = std::make_unique<HeldBackend>(fixture.disk, held);
  auto layer = filter->open(&below, fixture.client.opening(), nullptr, &fixture.error);

  TestRequest early(wire::NBD_CMD_READ, 0, 512); // its first line is not written yet
  layer->submit(early, Caller::may_block);
  CHECK(held.requests.empty());
  layer->give_up_unanswered();
  CHECK(early.wait() == ESHUTDOWN);

  TestRequest late(wire::NBD_CMD_READ, 512, 512); // it is below
  layer->submit(late, Caller::may_block);
  CHECK(pipe.read_all().empty());
  while (fixture.threads.run_one()) {
  }
  CHECK(held.requests.size() == 1);
  CHECK(pipe.read_all().find("Read id=2 offset=0x200") != std::string::npos);
  layer->give_up_unanswered();
  CHECK(late.wait() == ESHUTDOWN);
  CHECK(late.was_given_up);
  CHECK(pipe.read_all().empty());
  while (fixture.threads.run_one()) {
  }
  CHECK(pipe.read_all().find("...Read id=2 return=-1 error=ESHUTDOWN") != std::string::npos);
  layer->close();
}

TEST_CASE("a client whose last line is not written is closed once that is given up") {
  Fixture fixture;
  const NamedPipe pipe;
  auto filter = fixture.make("log", {{"file", pipe.path}});
  REQUIRE(filter);
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  auto layer = filter->open(&below, fixture.client.opening(), nullptr, &fixture.error);
  fixture.threads.has_any = false; // who says that it connects writes that itself
  prepare(*layer);
  CHECK(pipe.read_all().find("Connect") != std::string::npos);
  fixture.threads.has_any = true; // but they do not run
  std::atomic<bool> is_closed{false};
  std::thread closing([&] {
    layer->close();
    is_closed = true;
  });
  while (!is_closed) {
    layer->give_up_unanswered();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  closing.join();
  CHECK(pipe.read_all().empty());
  while (fixture.threads.run_one()) {
  }
  CHECK(pipe.read_all().find("Disconnect") != std::string::npos);
}

namespace {

constexpr uint32_t BLOCK_BYTES = 4096;

// Counters that a test looks at, and the filter that counts.
struct Counted : Fixture {
  std::shared_ptr<filters::RequestCounters> counters = std::make_shared<filters::RequestCounters>();
  std::unique_ptr<Filter> filter = make("stats", {{"counters", counters}});
};

} // namespace

TEST_CASE("stats counts what is done and what fails, with its bytes and times") {
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

TEST_CASE("times of any length have a bucket, which is told an eighth too long at most") {
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
