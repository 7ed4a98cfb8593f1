// Native filters by themselves, in front of a disk in memory: readonly, delay, error, and what
// takes long.
#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <deque>
#include <string>

#include "filter_fixture.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterFixture;
using filters::FilterOptions;
using filters::OpenedFilter;

TEST_CASE("unknown filters and unknown options are refused") {
  FilterFixture fixture;
  CHECK(fixture.make("frobnicate") == nullptr);
  CHECK(fixture.error.find("frobnicate") != std::string::npos);
  CHECK(fixture.make("readonly", {{"sometimes", true}}) == nullptr);
  CHECK(fixture.error.find("sometimes") != std::string::npos);
}

TEST_CASE("readonly passes on no writes, and passes reads with their reservations") {
  FilterFixture fixture;
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
struct Delayed : OpenedFilter {
  explicit Delayed(const FilterOptions &options) : OpenedFilter("delay", options) {}
};

} // namespace

TEST_CASE("a delayed request is passed on at its time and not before") {
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

TEST_CASE("a request that is not delayed passes on at once, with its reservation") {
  Delayed delayed({{"writeMs", 30.0}});
  TestRequest read(wire::NBD_CMD_READ, 4096, 512);
  CHECK(delayed.layer->reserve(read).data == &delayed.disk.bytes[4096]);
  CHECK(delayed.layer->bytes_besides(wire::NBD_CMD_READ, 512) == 0);
  CHECK(read.run(*delayed.layer) == 0);
  CHECK(delayed.timers.size() == 0);
}

TEST_CASE("a fast zero that is not delayed is refused at once") {
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

TEST_CASE("a waiting request that is given up fails at once and for good") {
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

TEST_CASE("a thousand requests wait without any thread") {
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
  FilterFixture fixture;
  CHECK(fixture.make("delay", {{"readMs", -1.0}}) == nullptr);
  CHECK(fixture.make("delay", {{"readMs", 0.5}}) == nullptr);
  CHECK(fixture.make("delay", {{"readMs", std::string("10")}}) == nullptr);
  CHECK(fixture.error.find("readMs") != std::string::npos);
}

TEST_CASE("an injected failure happens before the layer below, with its error and message and no "
          "reservation") {
  FilterFixture fixture;
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

TEST_CASE("about the given share of requests fails, in no order") {
  FilterFixture fixture;
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

TEST_CASE("a filter that can fail nothing makes no layer") {
  FilterFixture fixture;
  auto filter = fixture.make("error", {{"preadRate", 0.0}, {"pwriteCode", std::string("EPERM")}});
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  Backend *const was_below = below.get();
  auto layer = filter->open(&below, fixture.client.opening(), nullptr, &fixture.error);
  CHECK(layer.get() == was_below);
}

TEST_CASE("wrong rates and error codes are refused") {
  FilterFixture fixture;
  CHECK(fixture.make("error", {{"preadRate", 1.5}}) == nullptr);
  CHECK(fixture.make("error", {{"preadCode", std::string("EFROBNICATE")}}) == nullptr);
  CHECK(fixture.error.find("preadCode") != std::string::npos);
}

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

TEST_CASE("a long zeroing shares its thread and ends when its client leaves") {
  for (const char *name : {"cow", "cache"})
    for (const bool has_gone : {false, true}) {
      CAPTURE(name);
      FilterFixture fixture;
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
