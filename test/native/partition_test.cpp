// The partition filter in front of disks in memory with tables of both kinds, right ones and broken
// ones.
#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "filter_front.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;

namespace {

constexpr uint64_t SIZE = 4 << 20;

struct Partitioned : FilterFront {
  const uint64_t sector;

  explicit Partitioned(double number, uint64_t sector_bytes = 512)
      : FilterFront("partition",
                    {{"number", number}, {"sectorBytes", static_cast<double>(sector_bytes)}}, SIZE),
        sector(sector_bytes) {}

  void put(uint64_t at, uint64_t number, size_t bytes) {
    std::memcpy(disk.bytes.data() + at, &number, bytes); // the machine's order is the table's
  }
  // In the boot record at a sector.
  void add(uint64_t record, unsigned index, uint8_t type, uint32_t start, uint32_t count) {
    const uint64_t at = record * sector + 446 + index * uint64_t{16};
    put(at + 4, type, 1);
    put(at + 8, start, 4);
    put(at + 12, count, 4);
    put(record * sector + 510, 0xAA55, 2);
  }
  void add_gpt(uint64_t first, uint64_t last, uint32_t count = 128, uint32_t entry_bytes = 128) {
    add(0, 0, 0xee, 1, UINT32_MAX);
    std::memcpy(disk.bytes.data() + sector, "EFI PART", 8);
    put(sector + 80, count, 4);
    put(sector + 84, entry_bytes, 4);
    const uint64_t entry = 2 * sector + entry_bytes; // the second one
    if (entry + 128 > SIZE)
      return;
    put(entry, 1, 8);
    put(entry + 32, first, 8);
    put(entry + 40, last, 8);
  }
  // Primary ones in 1 and 3, logical ones in an extended one in 2.
  void add_mbr() {
    add(0, 0, 0x83, 100, 50);
    add(0, 1, 0x0f, 1000, 1000);
    add(0, 2, 0x83, 200, 60);
    add(1000, 0, 0x83, 10, 20);
    add(1000, 1, 0x05, 100, 100);
    add(1100, 0, 0x83, 10, 30);
  }
  bool is_refused(const char *words) {
    const bool refused = try_connect(std::make_unique<MemoryBackend>(disk)) == nullptr;
    CHECK_MESSAGE(error.find(words) != std::string::npos, error);
    return refused;
  }
};

// Of a plugin that gets whole blocks only.
class BlockBackend final : public MemoryBackend {
public:
  explicit BlockBackend(MemoryDisk &disk, uint32_t block = 4096)
      : MemoryBackend(disk), block_(block) {
    told_.block_sizes = {block, block, UINT32_MAX};
    told_.block_sizes_bind = true;
  }
  void submit(Request &request, Caller caller) override {
    CHECK(request.offset % block_ == 0);
    CHECK(request.length_bytes % block_ == 0);
    MemoryBackend::submit(request, caller);
  }

private:
  const uint32_t block_;
};

// Of a plugin that does not answer, or only when nobody waits for it any more.
class SilentBackend final : public MemoryBackend {
public:
  struct State {
    Gate gate;
    Request *asked = nullptr;
    bool is_alive = true;
  };

  SilentBackend(MemoryDisk &disk, State &state, bool answers_when_told)
      : MemoryBackend(disk), state_(state), answers_when_told_(answers_when_told) {}
  ~SilentBackend() override { state_.is_alive = false; }
  void submit(Request &request, Caller) override {
    state_.gate.change([&] { state_.asked = &request; });
  }
  void on_client_gone() override { be_told(); }
  void on_server_stopping() override { be_told(); }
  void give_up_unanswered() override { state_.asked->give_up(ESHUTDOWN); }

private:
  void be_told() {
    if (answers_when_told_)
      state_.asked->complete(EIO);
  }

  State &state_;
  const bool answers_when_told_;
};

} // namespace

TEST_CASE("primary and logical partitions of an MBR are where it says") {
  struct Place {
    double number;
    uint64_t first;
    uint64_t count;
  };
  for (const Place &place : {Place{1, 100, 50}, {3, 200, 60}, {5, 1010, 20}, {6, 1110, 30}}) {
    Partitioned front(place.number);
    front.add_mbr();
    Backend &client = front.connect();
    CHECK(client.facts().size_bytes == place.count * 512);
    CHECK(run(client, NBD_CMD_WRITE, 3, 10, 0, 9) == 0);
    CHECK(front.disk.bytes[place.first * 512 + 2] == 0);
    CHECK(front.disk.bytes[place.first * 512 + 3] == 9);
    TestRequest read(NBD_CMD_READ, 0, 512);
    CHECK(client.reserve(read).data == &front.disk.bytes[place.first * 512]);
    CHECK(extents_of(client, 512, place.count * 512 - 512)[0].length_bytes ==
          place.count * 512 - 512);
  }
}

TEST_CASE("partitions of a GPT are where it says, with either size of sectors") {
  for (const uint64_t sector : {512, 4096}) {
    Partitioned front(2, sector);
    front.add_gpt(40, 59);
    Backend &client = front.connect();
    CHECK(client.facts().size_bytes == 20 * sector);
    CHECK(run(client, NBD_CMD_WRITE, 0, 10, 0, 9) == 0);
    CHECK(front.disk.bytes[40 * sector] == 9);
  }
}

TEST_CASE("a missing partition, or one beyond the disk, refuses the client") {
  for (const double number : {2.0, 4.0, 7.0}) {
    Partitioned front(number);
    front.add_mbr();
    CHECK(front.is_refused("there is no partition"));
  }
  Partitioned none(1);
  CHECK(none.is_refused("neither an MBR nor a GPT"));
  Partitioned no_extended(5);
  no_extended.add(0, 0, 0x83, 1, 1);
  CHECK(no_extended.is_refused("no extended partition"));
  Partitioned outside(1);
  outside.add(0, 0, 0x83, 8000, 1000);
  CHECK(outside.is_refused("outside the disk"));
  Partitioned circle(7);
  circle.add_mbr();
  circle.add(1100, 1, 0x05, 100, 100);
  CHECK(circle.is_refused("broken"));
  Partitioned far(6);
  far.add_mbr();
  far.add(1000, 1, 0x05, 100'000, 100);
  CHECK(far.is_refused("outside the disk"));
  Partitioned long_one(5);
  long_one.add_mbr();
  long_one.add(1000, 0, 0x83, 10, 2000);
  CHECK(long_one.is_refused("outside the extended partition"));
}

TEST_CASE("a broken GPT refuses the client") {
  for (const double number : {1.0, 3.0, 129.0}) {
    Partitioned front(number);
    front.add_gpt(40, 59);
    CHECK(front.is_refused("there is no partition"));
  }
  Partitioned backwards(2);
  backwards.add_gpt(59, 40);
  CHECK(backwards.is_refused("outside"));
  Partitioned outside(2);
  outside.add_gpt(40, UINT64_MAX);
  CHECK(outside.is_refused("outside"));
  Partitioned small(2);
  small.add_gpt(40, 59, 128, 64);
  CHECK(small.is_refused("broken"));
  Partitioned large(2);
  large.add_gpt(40, 59, UINT32_MAX, UINT32_MAX);
  CHECK(large.is_refused("broken"));
}

TEST_CASE("a table that cannot be read refuses the client with the reason") {
  Partitioned front(1);
  front.add_mbr();
  front.disk.error_of = [](Request &) { return EIO; };
  CHECK(front.is_refused("cannot read the partition table"));
}

TEST_CASE("wrong partition numbers and sector sizes are refused") {
  CHECK(Partitioned(0).filter == nullptr);
  CHECK(Partitioned(1, 1024).filter == nullptr);
}

TEST_CASE("a plugin with a block size gets only whole blocks, for the table and afterwards") {
  Partitioned mbr(6);
  mbr.add_mbr();
  mbr.add(1100, 0, 0x83, 12, 32); // from sector 1112 on
  CHECK(mbr.connect(std::make_unique<BlockBackend>(mbr.disk)).facts().size_bytes == 32 * 512);
  Partitioned gpt(2);
  gpt.add_gpt(40, 63);
  Backend &client = gpt.connect(std::make_unique<BlockBackend>(gpt.disk));
  CHECK(client.facts().size_bytes == 24 * 512);
  CHECK(run(client, NBD_CMD_WRITE, 4096, 4096, 0, 9) == 0);
  CHECK(gpt.disk.bytes[40 * 512 + 4096] == 9);
}

TEST_CASE("a partition that is not aligned to blocks is refused with advice") {
  const auto words = [](const filters::FilterOptions &options) {
    FilterFront front("offset", options, SIZE);
    return front.try_connect(std::make_unique<BlockBackend>(front.disk)) == nullptr ? front.error
                                                                                    : "";
  };
  CHECK(words({{"offset", 63 * 512.0}}) ==
        "filter offset: the part begins at 32256, which is not a multiple of the block size "
        "below it, 4096: put --filter=blocksize after --filter=offset");
  CHECK(words({{"offset", 4096.0}, {"range", 512.0}}).find("ends at 4608,") != std::string::npos);
  CHECK(words({{"offset", 4096.0}}).empty());
  FilterFront odd("offset", {{"offset", 4096.0}}, SIZE + 512); // ends with the disk
  CHECK(odd.try_connect(std::make_unique<BlockBackend>(odd.disk)) != nullptr);
  Partitioned old(1);
  old.add(0, 0, 0x83, 63, 100);
  CHECK(old.try_connect(std::make_unique<BlockBackend>(old.disk)) == nullptr);
  CHECK(old.try_connect(std::make_unique<MemoryBackend>(old.disk)) != nullptr);
}

namespace {

// A client is being refused, as what it waits for does not come: `leave` is called meanwhile.
void check_refusal(Partitioned &front, bool answers_when_told, const std::function<void()> &leave) {
  front.add_mbr();
  SilentBackend::State below;
  std::thread leaving([&] {
    CHECK(below.gate.wait([&] { return below.asked != nullptr; }));
    leave();
  });
  auto opened = std::make_unique<SilentBackend>(front.disk, below, answers_when_told);
  CHECK(front.try_connect(std::move(opened)) == nullptr);
  leaving.join();
  CHECK(front.error.find("cannot read the partition table") != std::string::npos);
  CHECK(below.is_alive == !answers_when_told);
  if (!answers_when_told) // its late reply
    below.asked->completers.maker().release(*below.asked);
  CHECK_FALSE(below.is_alive);
}

} // namespace

TEST_CASE("a table that is being read does not hold up a server that stops") {
  for (const bool answers_when_told : {true, false}) {
    Partitioned front(1);
    check_refusal(front, answers_when_told, [&] { front.client.server->announce_stop(); });
  }
}

TEST_CASE("reading a table ends when its client hangs up") {
  for (const bool answers_when_told : {true, false}) {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    Partitioned front(1);
    front.client.peer_fd = ends[0];
    check_refusal(front, answers_when_told, [&] { ::close(ends[1]); });
    ::close(ends[0]);
  }
}
