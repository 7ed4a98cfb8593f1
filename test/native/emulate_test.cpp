// What stands in for what a backend cannot do: the calls that are made of each request, whenever
// they are answered, and what becomes of it when one fails, its client leaves or it is given up.
#include <doctest/doctest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "backend/emulate.hpp"
#include "limited_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

using Calls = std::vector<std::string>;
using World = LimitedWorld<Emulation>;

constexpr uint64_t MIB = 1 << 20;
constexpr uint64_t SIZE = 3 * MIB;
constexpr uint64_t LONG = uint64_t{5} << 30; // than a callback's count can say
constexpr uint64_t PART = uint64_t{2} << 30;

struct FlaggedRequest : TestRequest {
  FlaggedRequest(uint16_t of_type, int with_flags, uint64_t at = 0, uint64_t bytes = 512)
      : TestRequest(of_type, at, bytes, 0x5a) {
    flags = static_cast<uint16_t>(with_flags);
  }
};

uint64_t count_of_zeroes(const MemoryDisk &disk) {
  return static_cast<uint64_t>(std::count(disk.bytes.begin(), disk.bytes.end(), 0));
}

// Makes the number-th call fail, counted from 0.
void fail_call(World &world, unsigned number, int error) {
  world.disk.error_of = [&world, number, error, calls = 0u](Request &request) mutable {
    if (calls++ != number)
      return 0;
    request.make_extras().error_text = "as the test wants";
    return error;
  };
}

} // namespace

TEST_CASE("a request that the backend supports passes on unchanged") {
  World world(SIZE);
  world.open();
  for (const uint16_t type :
       {wire::NBD_CMD_READ, wire::NBD_CMD_WRITE, wire::NBD_CMD_FLUSH, wire::NBD_CMD_TRIM,
        wire::NBD_CMD_CACHE, wire::NBD_CMD_BLOCK_STATUS, wire::NBD_CMD_WRITE_ZEROES}) {
    const bool zeroes = type == wire::NBD_CMD_WRITE_ZEROES;
    FlaggedRequest request(type, zeroes ? wire::NBD_CMD_FLAG_FAST_ZERO : 0);
    CHECK(world.run(request) == 0);
    CHECK(world.disk.requests.back() == &request);
  }
  CHECK(world.disk.calls.size() == 7);
}

TEST_CASE("zeroes become writes if the backend cannot zero") {
  for (const Answers answers : ALL_WAYS) {
    World world(SIZE, answers);
    world.disk.zero = Support::emulate;
    world.disk.copies_writes = true;
    std::fill(world.disk.bytes.begin(), world.disk.bytes.end(), 1);
    world.open();
    FlaggedRequest request(wire::NBD_CMD_WRITE_ZEROES, 0, 512, 2 * MIB + 100);
    CHECK(world.run(request) == 0);
    CHECK(world.disk.calls ==
          Calls{"write 512+1048576", "write 1049088+1048576", "write 2097664+100"});
    CHECK(count_of_zeroes(world.disk) == 2 * MIB + 100);
    CHECK(world.disk.submits_in_completions == 0);
  }
}

TEST_CASE("zeroes that need no copy are written in calls of up to 64 MiB") {
  World world(65 * MIB);
  world.disk.zero = Support::emulate;
  world.open();
  FlaggedRequest request(wire::NBD_CMD_WRITE_ZEROES, 0, 0, 65 * MIB);
  CHECK(world.run(request) == 0);
  CHECK(world.disk.calls == Calls{"write 0+67108864", "write 67108864+1048576"});
}

TEST_CASE("emulated commands keep to the block sizes") {
  World world(SIZE);
  world.disk.zero = world.disk.cache = Support::emulate;
  world.disk.binding_sizes = {4096, 4096, 3 * MIB / 2};
  world.open();
  FlaggedRequest zeroes(wire::NBD_CMD_WRITE_ZEROES, 0, 4096, 2 * MIB);
  FlaggedRequest cache(wire::NBD_CMD_CACHE, 0, 4096, 2 * MIB);
  CHECK(world.run(zeroes) == 0);
  CHECK(world.run(cache) == 0);
  CHECK(world.disk.calls == Calls{"write 4096+1048576", "write 1052672+1048576",
                                  "read 4096+1048576", "read 1052672+1048576"});
}

TEST_CASE("zeroing that a backend refuses becomes writes") {
  for (const Answers answers : ALL_WAYS) {
    World world(SIZE, answers);
    world.open();
    fail_call(world, 0, ENOTSUP);
    FlaggedRequest request(wire::NBD_CMD_WRITE_ZEROES, 0, 512, 1024);
    CHECK(world.run(request) == 0);
    CHECK(world.disk.calls == Calls{"zeroes 512+1024", "write 512+1024"});
    CHECK((!request.extras || request.extras->error_text.empty()));
  }
}

TEST_CASE("a fast zero that would become writes is refused") {
  for (const Support zero : {Support::emulate, Support::native}) {
    World world(SIZE);
    world.disk.zero = zero;
    world.open();
    fail_call(world, 0, ENOTSUP);
    FlaggedRequest request(wire::NBD_CMD_WRITE_ZEROES, wire::NBD_CMD_FLAG_FAST_ZERO);
    CHECK(world.run(request) == ENOTSUP);
    CHECK(world.disk.calls == (zero == Support::native ? Calls{"zeroes 0+512 fast"} : Calls{}));
  }
}

TEST_CASE("emulation that would write or read 4 GiB or more is refused") {
  World world(SIZE);
  world.disk.zero = world.disk.cache = Support::emulate;
  world.open();
  for (const uint16_t type : {wire::NBD_CMD_WRITE_ZEROES, wire::NBD_CMD_CACHE}) {
    FlaggedRequest request(type, 0, 0, uint64_t{1} << 32);
    CHECK(world.run(request) == EINVAL);
    CHECK(!request.extras->error_text.empty());
  }
  CHECK(world.disk.calls.empty());
}

TEST_CASE("a flush makes a write durable if the backend has no FUA") {
  for (const Answers answers : ALL_WAYS) {
    World world(SIZE, answers);
    world.disk.fua = Support::emulate;
    world.open();
    FlaggedRequest write(wire::NBD_CMD_WRITE, wire::NBD_CMD_FLAG_FUA);
    FlaggedRequest trim(wire::NBD_CMD_TRIM, wire::NBD_CMD_FLAG_FUA, 512);
    FlaggedRequest zeroes(wire::NBD_CMD_WRITE_ZEROES, wire::NBD_CMD_FLAG_FUA, 1024);
    CHECK(world.run(write) == 0);
    CHECK(world.run(trim) == 0);
    CHECK(world.run(zeroes) == 0);
    CHECK(world.disk.calls == Calls{"write 0+512", "flush 0+0", "trim 512+512", "flush 0+0",
                                    "zeroes 1024+512", "flush 0+0"});
    CHECK(world.disk.bytes[0] == 0x5a);
    CHECK(world.disk.submits_in_completions == 0);
    CHECK(write.flags == wire::NBD_CMD_FLAG_FUA);
  }
}

TEST_CASE("only the commands that cannot be durable are followed by a flush") {
  World world(SIZE);
  world.disk.limits.without_fua = 1u << wire::NBD_CMD_TRIM;
  world.open();
  FlaggedRequest write(wire::NBD_CMD_WRITE, wire::NBD_CMD_FLAG_FUA);
  FlaggedRequest trim(wire::NBD_CMD_TRIM, wire::NBD_CMD_FLAG_FUA);
  CHECK(world.run(write) == 0);
  CHECK(world.run(trim) == 0);
  CHECK(world.disk.calls == Calls{"write 0+512 fua", "trim 0+512", "flush 0+0"});
  CHECK(world.disk.requests[0] == &write);
}

TEST_CASE("zeroes that are written are durable as the backend makes writes durable") {
  for (const Support fua : {Support::emulate, Support::native}) {
    World world(SIZE);
    world.disk.zero = Support::emulate;
    world.disk.fua = fua;
    world.disk.copies_writes = true;
    world.open();
    FlaggedRequest request(wire::NBD_CMD_WRITE_ZEROES, wire::NBD_CMD_FLAG_FUA, 0, 2 * MIB);
    CHECK(world.run(request) == 0);
    CHECK(world.disk.calls ==
          (fua == Support::native
               ? Calls{"write 0+1048576 fua", "write 1048576+1048576 fua"}
               : Calls{"write 0+1048576", "write 1048576+1048576", "flush 0+0"}));
  }
}

TEST_CASE("a durable write is received in place") {
  World world(SIZE);
  world.disk.fua = Support::emulate;
  world.open();
  FlaggedRequest request(wire::NBD_CMD_WRITE, wire::NBD_CMD_FLAG_FUA, 512);
  const Reservation reservation = world.layer->reserve(request);
  CHECK(reservation.data == &world.disk.bytes[512]);
  CHECK(world.disk.reserved_flags == std::vector<uint16_t>{0});
  CHECK(request.flags == wire::NBD_CMD_FLAG_FUA);
  request.data = reservation.data;
  request.is_reserved = true;
  CHECK(world.run(request) == 0);
  CHECK(world.disk.calls == Calls{"write 512+512", "flush 0+0"});
  CHECK(world.disk.reserved == 0);
  CHECK(request.data == reservation.data);
}

TEST_CASE("caching becomes a read if the backend cannot cache") {
  for (const Answers answers : ALL_WAYS) {
    World world(65 * MIB, answers);
    world.disk.cache = Support::emulate;
    world.open();
    FlaggedRequest request(wire::NBD_CMD_CACHE, 0, 100, 64 * MIB + 1);
    CHECK(world.run(request) == 0);
    CHECK(world.disk.calls == Calls{"read 100+67108864", "read 67108964+1"});
    CHECK(world.disk.submits_in_completions == 0);
  }
}

TEST_CASE("without extents the whole range is allocated") {
  World world(SIZE);
  world.disk.can_extents = false;
  world.open();
  FlaggedRequest request(wire::NBD_CMD_BLOCK_STATUS, 0, 512, 4096);
  request.extras->statuses.push_back({2, 7, {}});
  CHECK(world.run(request) == 0);
  CHECK(world.disk.calls == Calls{"status 512+4096 context 7"});
  CHECK(request.extras->statuses[0].extents.size() == 1);
  CHECK(request.extras->statuses[0].extents[0].length_bytes == 4096);
  CHECK(request.extras->statuses[0].extents[0].flags == 0);
}

TEST_CASE("several contexts are asked about one by one where a backend takes one") {
  for (const Answers answers : ALL_WAYS) {
    World world(SIZE, answers);
    world.disk.limits.takes_one_context = true;
    world.open();
    FlaggedRequest request(wire::NBD_CMD_BLOCK_STATUS, 0, 0, 4096);
    request.extras->statuses.push_back({2, 7, {}});
    CHECK(world.run(request) == 0);
    CHECK(world.disk.calls == Calls{"status 0+4096 context 0", "status 0+4096 context 7"});
    for (const ContextStatus &status : request.extras->statuses)
      CHECK(status.extents.at(0).length_bytes == 4096);
  }
}

TEST_CASE("a range that is longer than a callback can take comes in parts") {
  World world(SIZE);
  world.disk.limits.longest_range_bytes = UINT32_MAX;
  world.open();
  fail_call(world, 1, EIO);
  FlaggedRequest request(wire::NBD_CMD_CACHE, 0, 0, LONG);
  CHECK(world.run(request) == EIO);
  CHECK(world.disk.calls == Calls{"cache 0+2147483648", "cache 2147483648+3221225472"});
  REQUIRE(request.extras);
  CHECK(request.extras->error_offset == PART);
}

TEST_CASE("a durable write is in one piece, whatever the limit for ranges") {
  World world(SIZE);
  world.disk.fua = Support::emulate;
  world.disk.limits.longest_range_bytes = 512;
  world.open();
  FlaggedRequest request(wire::NBD_CMD_WRITE, wire::NBD_CMD_FLAG_FUA, 0, 2048);
  CHECK(world.run(request) == 0);
  CHECK(world.disk.calls == Calls{"write 0+2048", "flush 0+0"});
}

TEST_CASE("a range that would take too many parts is refused") {
  World world(SIZE);
  world.disk.limits.longest_range_bytes = UINT32_MAX;
  world.open();
  FlaggedRequest request(wire::NBD_CMD_TRIM, 0, 0, (PART << 16) + 1);
  CHECK(world.run(request) == EINVAL);
  CHECK(world.disk.calls.empty());
}

TEST_CASE("the request fails with the message and offset of its failed call") {
  for (const Answers answers : ALL_WAYS) {
    for (unsigned number = 0; number < 3; number++) {
      World world(SIZE, answers);
      world.disk.zero = world.disk.fua = Support::emulate;
      world.disk.copies_writes = true;
      world.open();
      fail_call(world, number, ENOSPC);
      FlaggedRequest request(wire::NBD_CMD_WRITE_ZEROES, wire::NBD_CMD_FLAG_FUA, 512, 2 * MIB);
      CHECK(world.run(request) == ENOSPC);
      CHECK(world.disk.calls.size() == number + 1);
      CHECK(request.extras->error_text == "as the test wants");
      const bool is_known = number == 1; // a flush has no place
      CHECK(request.extras->error_offset ==
            (is_known ? std::optional<uint64_t>(512 + MIB) : std::nullopt));
      CHECK(request.ends == 1);
    }
  }
}

TEST_CASE("no further call is made for a client that has gone") {
  World world(SIZE, Answers::later);
  world.disk.zero = Support::emulate;
  world.disk.copies_writes = true;
  world.open();
  FlaggedRequest request(wire::NBD_CMD_WRITE_ZEROES, 0, 0, 2 * MIB);
  world.layer->submit(request, Caller::may_block);
  request.has_gone = true;
  world.backend->answer();
  CHECK(request.wait() == ESHUTDOWN);
  CHECK(world.disk.calls == Calls{"write 0+1048576"});
  CHECK(world.threads.tasks.empty());
}

TEST_CASE("a request given up at any step is released when the late reply comes") {
  for (unsigned steps = 0; steps < 3; steps++) {
    World world(SIZE, Answers::later);
    world.disk.zero = world.disk.fua = Support::emulate;
    world.disk.copies_writes = true;
    world.open();
    FlaggedRequest request(wire::NBD_CMD_WRITE_ZEROES, wire::NBD_CMD_FLAG_FUA, 0, 2 * MIB);
    world.layer->submit(request, Caller::may_block);
    for (unsigned step = 0; step < steps; step++) {
      world.backend->answer();
      CHECK(world.threads.run_one());
    }
    Request *child = world.disk.held.front();
    world.layer->give_up_unanswered();
    CHECK(request.was_given_up);
    CHECK(request.result == ESHUTDOWN);
    CHECK(!request.is_released);
    child->completers.maker().release(*child);
    CHECK(request.is_released);
    CHECK(request.ends == 1);
  }
}

TEST_CASE("a request between two steps ends when requests are given up") {
  World world(SIZE, Answers::later);
  world.disk.fua = Support::emulate;
  world.open();
  FlaggedRequest request(wire::NBD_CMD_WRITE, wire::NBD_CMD_FLAG_FUA);
  world.layer->submit(request, Caller::may_block);
  world.backend->answer();
  world.layer->give_up_unanswered();
  CHECK(!request.is_done());
  CHECK(world.threads.run_one());
  CHECK(request.wait() == ESHUTDOWN);
  CHECK(!request.was_given_up);
  CHECK(world.disk.calls == Calls{"write 0+512"});
}

TEST_CASE("a request goes on even if no thread is free") {
  World world(SIZE, Answers::later);
  world.disk.fua = Support::emulate;
  world.threads.has_any = false;
  world.open();
  FlaggedRequest request(wire::NBD_CMD_WRITE, wire::NBD_CMD_FLAG_FUA);
  CHECK(world.run(request) == 0);
  CHECK(world.disk.calls == Calls{"write 0+512", "flush 0+0"});
}

TEST_CASE("emulation above emulation does the same") {
  World world(SIZE);
  world.disk.zero = world.disk.fua = world.disk.cache = Support::emulate;
  world.disk.can_extents = false;
  world.open();
  Emulation upper(std::move(world.layer), world.threads);
  prepare(upper);
  CHECK(upper.facts().zero == Support::emulate);
  CHECK(upper.facts().fua == Support::emulate);
  CHECK(upper.facts().cache == Support::emulate);
  FlaggedRequest zeroes(wire::NBD_CMD_WRITE_ZEROES, wire::NBD_CMD_FLAG_FUA);
  FlaggedRequest cache(wire::NBD_CMD_CACHE, 0);
  FlaggedRequest status(wire::NBD_CMD_BLOCK_STATUS, 0);
  CHECK(zeroes.run(upper) == 0);
  CHECK(cache.run(upper) == 0);
  CHECK(status.run(upper) == 0);
  CHECK(world.disk.calls == Calls{"write 0+512", "flush 0+0", "read 0+512"});
}

TEST_CASE("a request is charged what its calls need besides their data") {
  World world(SIZE);
  world.disk.zero = world.disk.cache = Support::emulate;
  world.disk.copies_writes = true;
  world.open();
  CHECK(world.layer->bytes_besides(wire::NBD_CMD_READ, MIB) == 0);
  CHECK(world.layer->bytes_besides(wire::NBD_CMD_WRITE, MIB) == MIB);
  const uint32_t for_zeroes = world.layer->bytes_besides(wire::NBD_CMD_WRITE_ZEROES, LONG);
  CHECK(for_zeroes > MIB);
  CHECK(for_zeroes < MIB + 4096);
  CHECK(world.layer->bytes_besides(wire::NBD_CMD_CACHE, LONG) == for_zeroes + 63 * MIB);
}
