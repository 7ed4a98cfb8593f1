// The filter rate by itself, on a clock that the test moves.
#include <doctest/doctest.h>

#include <chrono>

#include "filter_fixture.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterFixture;
using filters::FilterOptions;
using filters::OpenedFilter;

namespace {

// A rate in front of the disk, as two clients have it.
struct Slow : OpenedFilter {
  std::unique_ptr<Backend> other = open(*filter);

  explicit Slow(const FilterOptions &options) : OpenedFilter("rate", options) {}
};

constexpr double BITS = 8 * 1000 * 100; // 100 bytes a millisecond

} // namespace

TEST_CASE("a request beyond the burst waits for its bits, without a thread") {
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

TEST_CASE("a read that need not wait is read in place, and takes its bits once") {
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

TEST_CASE("a request larger than the burst takes as long as its bits") {
  Slow slow({{"bits", BITS}, {"burstSeconds", 0.01}});
  TestRequest large(wire::NBD_CMD_READ, 0, 1000 + 10000);
  slow.layer->submit(large, Caller::may_block);
  for (unsigned i = 0; i < 99; i++)
    slow.pass(std::chrono::milliseconds(1));
  CHECK_FALSE(large.is_done());
  slow.pass(std::chrono::milliseconds(2)); // one for fractions of a bit
  CHECK(large.wait() == 0);
}

TEST_CASE("one rate is for all clients, another for each connection") {
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
  FilterFixture fixture;
  auto filter = fixture.make("rate", {{"burstSeconds", 2.0}});
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  Backend *const was_below = below.get();
  CHECK(filter->open(&below, fixture.client.opening(), nullptr, &fixture.error).get() == was_below);
  CHECK(fixture.make("rate", {{"bits", -1.0}}) == nullptr);
  CHECK(fixture.make("rate", {{"burstSeconds", 0.0}}) == nullptr);
}
