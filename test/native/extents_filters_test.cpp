// Native filters that answer for extents themselves, in front of a disk in memory.
#include <doctest/doctest.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "filter_front.hpp"
#include "held_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;

namespace {

constexpr uint64_t SIZE = 1 << 20;

struct Counted : FilterFront {
  unsigned asked = 0; // how often about extents
  std::vector<uint16_t> flags;

  explicit Counted(const char *name, const filters::FilterOptions &options = {})
      : FilterFront(name, options, SIZE) {
    disk.error_of = [this](Request &request) {
      if (request.type == NBD_CMD_BLOCK_STATUS) {
        asked++;
        flags.push_back(request.flags);
      }
      return 0;
    };
  }
};

// A file with this text, as long as the object lives.
struct TextFile {
  std::string path = "/tmp/asyncnbd-test-extents-" + std::to_string(getpid());

  explicit TextFile(const std::string &text) { std::ofstream(path) << text; }
  ~TextFile() { std::remove(path.c_str()); }
};

std::vector<std::pair<uint64_t, uint64_t>> pairs_of(const std::vector<Extent> &extents) {
  std::vector<std::pair<uint64_t, uint64_t>> pairs;
  for (const Extent &extent : extents)
    pairs.emplace_back(extent.length_bytes, extent.flags);
  return pairs;
}

} // namespace

TEST_CASE("extents are asked for once, and again after a change") {
  Counted front("cacheextents");
  Backend &client = front.connect();
  Backend &other = front.connect();
  CHECK(extents_of(client, 4096, 8192, NBD_CMD_FLAG_REQ_ONE).size() == 1);
  CHECK(front.flags.back() == 0); // as much as below likes to tell
  const auto again = extents_of(other, 8192, 100'000);
  CHECK(pairs_of(again) == std::vector<std::pair<uint64_t, uint64_t>>{{4096, 3}});
  CHECK(front.asked == 1);
  extents_of(client, 0, 4096); // before what is kept
  CHECK(front.asked == 2);
  for (const uint16_t type : {NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES}) {
    extents_of(client, 512, 512);
    const unsigned before = front.asked;
    CHECK(run(other, type, 512, 512, 0, 7) == 0);
    const uint64_t wanted = type == NBD_CMD_WRITE ? 0 : 3;
    CHECK(extents_of(client, 512, 512)[0].flags == wanted);
    CHECK(front.asked == before + 1);
  }
  CHECK(run(client, NBD_CMD_READ, 0, 512) == 0);
  CHECK(run(client, NBD_CMD_FLUSH, 0, 0) == 0);
  const unsigned before = front.asked;
  extents_of(client, 512, 512);
  CHECK(front.asked == before);
}

TEST_CASE("extents answered during a write are not kept") {
  HeldBackend::Held held;
  Counted front("cacheextents");
  auto opened = std::make_unique<HeldBackend>(front.disk, held);
  HeldBackend &below = *opened;
  Backend &client = front.connect(std::move(opened));
  TestRequest write(NBD_CMD_WRITE, 0, 512, 7);
  client.submit(write, Caller::may_block);
  Request *of_write = held.take();
  TestRequest status(NBD_CMD_BLOCK_STATUS, 0, 512);
  client.submit(status, Caller::may_block);
  below.answer(*held.take());
  CHECK(status.wait() == 0);
  below.answer(*of_write);
  CHECK(write.wait() == 0);
  TestRequest again(NBD_CMD_BLOCK_STATUS, 0, 512);
  client.submit(again, Caller::may_block);
  below.answer(*held.take());
  CHECK(again.wait() == 0);
  CHECK(again.extras->statuses[0].extents[0].flags == 0);
}

TEST_CASE("clients get the extents of the list and the data of the disk") {
  const TextFile list("4k 1k hole,zero\n8k 4k\n512K 512 zero\n0 4096 1\n\t64K\t0\n16k 1k 3 more\n");
  Counted front("extentlist", {{"file", list.path}});
  front.disk.bytes.assign(SIZE, 7);
  Backend &client = front.connect();
  CHECK(client.facts().can_extents);
  CHECK_FALSE(client.facts().has_sparse_reads);
  const std::vector<std::pair<uint64_t, uint64_t>> wanted{
      {4096, 1}, {4096, 3}, {4096, 0}, {524288 - 12288, 3}, {512, 2}, {524288 - 512, 3}};
  CHECK(pairs_of(extents_of(client, 0, SIZE)) == wanted);
  CHECK(pairs_of(extents_of(client, 8192 + 100, 10)) ==
        std::vector<std::pair<uint64_t, uint64_t>>{{4096 - 100, 0}});
  CHECK(front.asked == 0);
  TestRequest read(NBD_CMD_READ, 4096, 512);
  CHECK(read.run(client) == 0);
  CHECK(read.content == std::vector<uint8_t>(512, 7));
}

TEST_CASE("a wrong list of extents is refused with the number of its line") {
  for (const auto &[text, words] : {
           std::pair{"0 4k\n\n8k 4k\n", "line 2"},
           std::pair{"0\n", "line 1"},
           std::pair{"0 x\n", "line 1"},
           std::pair{"0 8k\n4k 8k\n", "overlaps"},
       }) {
    const TextFile list(text);
    Counted front("extentlist", {{"file", list.path}});
    CHECK(front.filter == nullptr);
    CHECK_MESSAGE(front.error.find(words) != std::string::npos, front.error);
  }
  Counted missing("extentlist", {{"file", std::string("/nowhere/at/all")}});
  CHECK(missing.error.find("/nowhere/at/all") != std::string::npos);
}
