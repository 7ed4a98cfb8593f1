// Reads of which only the data is read: what is asked below, and what the request says at its end.
#include <doctest/doctest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "backend/sparse_reads.hpp"
#include "limited_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

using Calls = std::vector<std::string>;

constexpr uint64_t SIZE = 64 << 10;

// 16 KiB of data, a hole, 8 KiB of data, a hole.
struct World : LimitedWorld<SparseReads> {
  explicit World(Answers how = Answers::inside_submit) : LimitedWorld(SIZE, how) {
    std::fill_n(disk.bytes.begin(), 16 << 10, 1);
    std::fill_n(disk.bytes.begin() + (32 << 10), 8 << 10, 2);
    open();
  }
};

struct Read : TestRequest {
  Read(uint64_t at, uint64_t bytes) : TestRequest(wire::NBD_CMD_READ, at, bytes, 0xcc) {
    may_have_holes = true;
  }
};

} // namespace

TEST_CASE("a read that must not have holes passes on unchanged") {
  World world;
  TestRequest request(wire::NBD_CMD_READ, 0, SIZE);
  CHECK(world.run(request) == 0);
  CHECK(world.disk.calls == Calls{"read 0+65536"});
  CHECK(world.disk.requests[0] == &request);
}

TEST_CASE("holes are not read") {
  for (const Answers answers : ALL_WAYS) {
    World world(answers);
    Read request(0, SIZE);
    CHECK(world.run(request) == 0);
    CHECK(world.disk.calls == Calls{"status 0+65536 context 0", "read 0+16384", "read 32768+8192"});
    REQUIRE(request.extras->runs);
    CHECK(request.extras->runs->size() == 4);
    CHECK(request.content[16383] == 1);
    CHECK(request.content[16384] == 0xcc);
    CHECK(request.content[32768] == 2);
    CHECK(world.disk.submits_in_completions == 0);
  }
}

TEST_CASE("a read of one hole reads nothing") {
  World world;
  Read request(16 << 10, 16 << 10);
  CHECK(world.run(request) == 0);
  CHECK(world.disk.calls == Calls{"status 16384+16384 context 0"});
}

TEST_CASE("a read without holes passes on unchanged") {
  for (const Answers answers : ALL_WAYS) {
    World world(answers);
    Read request(0, 16 << 10);
    CHECK(world.run(request) == 0);
    CHECK(world.disk.requests.back() == &request);
    CHECK(request.data_until == 16 << 10);
    CHECK(world.disk.submits_in_completions == 0);
  }
}

TEST_CASE("without extents the whole range is read") {
  World world;
  world.disk.error_of = [](Request &request) {
    request.make_extras().error_text = "of the lookup";
    return request.type == wire::NBD_CMD_BLOCK_STATUS ? EIO : 0;
  };
  Read request(0, SIZE);
  CHECK(world.run(request) == 0);
  CHECK(world.disk.requests.back() == &request);
  CHECK(request.extras->runs == nullptr);
}

TEST_CASE("a read from the disk's own memory needs no call") {
  World world;
  Read request(0, SIZE);
  request.answer = {Answer::Kind::disk, world.disk.bytes.data()};
  request.is_reserved = true;
  CHECK(world.run(request) == 0);
  CHECK(world.disk.calls == Calls{"status 0+65536 context 0"});
  CHECK(request.extras->runs->size() == 4);
}

TEST_CASE("an error says how far the data is valid") {
  World world;
  world.disk.error_of = [](Request &request) { return request.offset == 32 << 10 ? EIO : 0; };
  Read request(0, SIZE);
  CHECK(world.run(request) == EIO);
  CHECK(request.extras->error_offset == 32 << 10);
  CHECK(request.extras->runs);
}

TEST_CASE("a read that is given up between its parts is released after the late reply") {
  World world(Answers::later);
  Read request(0, SIZE);
  world.layer->submit(request, Caller::may_block);
  world.backend->answer();
  CHECK(world.threads.run_one());
  Request *part = world.disk.held.front();
  world.layer->give_up_unanswered();
  CHECK(request.was_given_up);
  CHECK(!request.is_released);
  part->completers.maker().release(*part);
  CHECK(request.is_released);
}

TEST_CASE("a read without holes is charged for memory besides its data") {
  World world;
  CHECK(world.layer->bytes_besides(wire::NBD_CMD_READ, MIN_SPARSE_BYTES) >= sizeof(SparseRead));
  CHECK(world.layer->bytes_besides(wire::NBD_CMD_READ, MIN_SPARSE_BYTES - 1) == 0);
  CHECK(world.layer->bytes_besides(wire::NBD_CMD_WRITE, SIZE) == 0);
}
