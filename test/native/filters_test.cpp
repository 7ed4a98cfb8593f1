// Each native filter by itself, in front of a disk in memory.
#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <deque>
#include <string>

#include "backend/operation_pool.hpp"
#include "filters/registry.hpp"
#include "memory_backend.hpp"
#include "simulation.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterOptions;

namespace {

struct Fixture {
  SimulatedClock clock;
  SimulatedThreads threads;
  base::Timers timers{clock, threads};
  transport::PagePipes page_pipes;
  OperationSlabs operations;
  Resources resources{clock, timers, threads, page_pipes, operations};
  MemoryDisk disk{1 << 20};
  std::string error;

  std::unique_ptr<Filter> make(const char *name, const FilterOptions &options = {}) {
    error.clear();
    return filters::make_filter(name, options, resources, &error);
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
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  auto layer = filter->open(&below, false, nullptr, &fixture.error);
  REQUIRE(layer);
  CHECK_FALSE(layer->capabilities().can_write);
  CHECK_FALSE(layer->capabilities().can_trim);
  CHECK(layer->capabilities().zero == Support::none);
  CHECK(layer->capabilities().size_bytes == fixture.disk.bytes.size());

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
    std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(disk);
    layer = filter->open(&below, false, nullptr, &error);
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
