// The cow filter in front of a disk in memory: what clients see, and that nothing is written below.
#include <doctest/doctest.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include "block_filter.hpp"
#include "held_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

constexpr uint64_t SIZE = 16 * BLOCK + 700; // the last block is short

struct Cow : BlockFilter {
  explicit Cow(filters::FilterOptions options = {}, uint64_t size_bytes = SIZE)
      : BlockFilter("cow", std::move(options), SIZE, size_bytes) {}

  // Nothing has been written below.
  bool is_untouched() const {
    for (uint64_t i = 0; i < SIZE; i++)
      if (disk.bytes[i] != original(i))
        return false;
    return true;
  }
};

std::vector<std::pair<uint64_t, uint64_t>> extents(Backend &client, uint64_t offset, uint64_t bytes,
                                                   uint16_t flags = 0) {
  TestRequest request(wire::NBD_CMD_BLOCK_STATUS, offset, bytes);
  request.flags = flags;
  CHECK(request.run(client) == 0);
  std::vector<std::pair<uint64_t, uint64_t>> found;
  for (const Extent &extent : request.extras->statuses[0].extents)
    found.emplace_back(extent.length_bytes, extent.flags);
  return found;
}

} // namespace

TEST_CASE("all clients see a write, and the disk below stays unchanged") {
  Cow cow;
  Backend &writer = cow.connect();
  Backend &reader = cow.connect();
  CHECK(writer.facts().can_write);
  CHECK(writer.facts().fua == Support::native);
  CHECK(cow.filter->opens_readonly(false));
  std::vector<uint8_t> model = cow.disk.bytes;
  auto expect_all = [&] { CHECK(read(reader, 0, SIZE) == model); };
  const std::pair<uint64_t, uint64_t> ranges[] = {
      {100, 50},     {BLOCK - 1, 2}, {2 * BLOCK, BLOCK}, {5 * BLOCK + 9, 3 * BLOCK},
      {SIZE - 1, 1}, {0, SIZE},      {BLOCK, 700},
  };
  uint8_t fill = 200;
  for (const auto &[offset, bytes] : ranges) {
    CHECK(write(writer, offset, bytes, ++fill) == 0);
    memset(model.data() + offset, fill, bytes);
    expect_all();
  }
  for (const uint16_t type : {wire::NBD_CMD_TRIM, wire::NBD_CMD_WRITE_ZEROES})
    for (const auto &[offset, bytes] : ranges) {
      for (const uint16_t flags : {uint16_t{0}, wire::NBD_CMD_FLAG_NO_HOLE}) {
        CHECK(write(writer, 3, SIZE - 5, ++fill) == 0);
        memset(model.data() + 3, fill, SIZE - 5);
        CHECK(run(writer, type, offset, bytes, flags) == 0);
        memset(model.data() + offset, 0, bytes);
        expect_all();
        CHECK(write(writer, 7 * BLOCK + 1, 3, 77) == 0);
        memset(model.data() + 7 * BLOCK + 1, 77, 3);
        expect_all();
      }
    }
  CHECK(run(writer, wire::NBD_CMD_FLUSH, 0, 0) == 0);
  CHECK(cow.is_untouched());
}

TEST_CASE("zeroes hide a disk that was never read") {
  Cow cow;
  Backend &client = cow.connect();
  CHECK(run(client, wire::NBD_CMD_TRIM, 100, 3 * BLOCK) == 0);
  std::vector<uint8_t> model = cow.disk.bytes;
  memset(model.data() + 100, 0, 3 * BLOCK);
  CHECK(read(client, 0, SIZE) == model);
  CHECK(run(client, wire::NBD_CMD_WRITE_ZEROES, 0, SIZE, wire::NBD_CMD_FLAG_FAST_ZERO) == 0);
  CHECK(read(client, 0, SIZE) == std::vector<uint8_t>(SIZE, 0));
  CHECK(cow.is_untouched());
}

TEST_CASE("a read of unwritten blocks passes on with its reservation, and no other read does") {
  Cow cow;
  Backend &client = cow.connect();
  TestRequest below(wire::NBD_CMD_READ, BLOCK, 2 * BLOCK);
  CHECK(client.reserve(below).data == &cow.disk.bytes[BLOCK]);
  TestRequest large(wire::NBD_CMD_WRITE, BLOCK, BLOCK);
  CHECK(client.reserve(large).data == nullptr);
  CHECK(cow.disk.reserved == 0);
  CHECK(write(client, 2 * BLOCK + 5, 1, 9) == 0);
  CHECK(client.reserve(below).data == nullptr);
}

TEST_CASE("a block written a moment ago is received in place") {
  Cow cow;
  Backend &client = cow.connect();
  TestRequest request(wire::NBD_CMD_WRITE, BLOCK, 2 * BLOCK, 33);
  auto begin = [&](uint8_t fill) {
    const asyncnbd::backend::Reservation reservation = client.reserve(request);
    if (reservation.data != nullptr) {
      CHECK(reservation.is_file);
      request.is_reserved = true;
      memset(reservation.data, fill, 2 * BLOCK);
    }
    return reservation.data != nullptr;
  };
  const std::vector<uint8_t> zeroes(2 * BLOCK);
  CHECK_FALSE(begin(1)); // it would change what lies below
  CHECK(write(client, BLOCK, 2 * BLOCK, 44) == 0);
  CHECK_FALSE(begin(2)); // whether it was a moment ago, only overwriting notes
  CHECK(write(client, BLOCK, 2 * BLOCK, 44) == 0);
  CHECK(begin(55));
  CHECK(request.run(client) == 0);
  CHECK(read(client, BLOCK, 2 * BLOCK) == std::vector<uint8_t>(2 * BLOCK, 55));
  // Who zeroes what is being received comes later.
  CHECK(begin(66));
  CHECK(run(cow.connect(), wire::NBD_CMD_TRIM, 0, 4 * BLOCK) == 0);
  CHECK(request.run(client) == 0);
  CHECK(read(client, BLOCK, 2 * BLOCK) == zeroes);
  CHECK_FALSE(begin(77));
  // What it has left in the file, nobody sees.
  CHECK(write(client, BLOCK + 10, 1, 88) == 0);
  std::vector<uint8_t> model = zeroes;
  model[10] = 88;
  CHECK(read(client, BLOCK, 2 * BLOCK) == model);
  // A payload that does not come as a whole leaves nothing behind that counts.
  CHECK(write(client, BLOCK, 2 * BLOCK, 99) == 0);
  CHECK(begin(11));
  client.unreserve(request);
  CHECK(write(client, BLOCK, 2 * BLOCK, 99) == 0);
  CHECK(begin(22));
  client.unreserve(request);
  cow.clock.advance(std::chrono::seconds(10));
  CHECK_FALSE(begin(33)); // that was long ago
  CHECK_FALSE(
      cow.connect(std::make_unique<MemoryBackend>(cow.disk), true).reserve(request).is_file);
  CHECK(cow.is_untouched());
}

TEST_CASE("extents show writes and zeroes, and elsewhere those of the disk below") {
  Cow cow;
  memset(cow.disk.bytes.data() + 8 * BLOCK, 0, 2 * BLOCK);
  Backend &client = cow.connect();
  CHECK(write(client, BLOCK, BLOCK, 9) == 0);
  CHECK(run(client, wire::NBD_CMD_TRIM, 2 * BLOCK, BLOCK) == 0);
  using Found = std::vector<std::pair<uint64_t, uint64_t>>;
  CHECK(extents(client, 0, SIZE) ==
        Found{{2 * BLOCK, 0}, {BLOCK, 3}, {5 * BLOCK, 0}, {2 * BLOCK, 3}, {6 * BLOCK + 700, 0}});
  CHECK(extents(client, 2 * BLOCK + 100, 50) == Found{{50, 3}});
  CHECK(extents(client, 100, SIZE - 100, wire::NBD_CMD_FLAG_REQ_ONE).size() == 1);
}

TEST_CASE("with onRead and onCache each block is fetched once") {
  for (const char *option : {"onRead", "onCache"}) {
    Cow cow({{option, true}});
    Backend &client = cow.connect();
    const bool reads = std::string(option) == "onRead";
    CHECK(run(client, reads ? wire::NBD_CMD_READ : wire::NBD_CMD_CACHE, 100, 5000) == 0);
    cow.disk.error_of = [](const Request &) { return EIO; };
    CHECK(read(client, 0, 2 * BLOCK)[0] == Cow::original(0));
    CHECK(run(client, wire::NBD_CMD_READ, 0, 2 * BLOCK + 1) == EIO);
  }
}

TEST_CASE("onReadPath copies blocks while its file exists") {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("cow-test-" + std::to_string(getpid()));
  Cow cow({{"onReadPath", path.string()}});
  Backend &client = cow.connect();
  CHECK(read(client, 0, BLOCK)[0] == Cow::original(0));
  CHECK(cow.disk.submitted == 1);
  CHECK(read(client, 0, BLOCK)[0] == Cow::original(0));
  CHECK(cow.disk.submitted == 2);
  fclose(fopen(path.c_str(), "w"));
  for (int i = 0; i < 3; i++)
    CHECK(read(client, 0, BLOCK)[0] == Cow::original(0));
  CHECK(cow.disk.submitted == 3);
  std::filesystem::remove(path);
}

TEST_CASE("an error below fails only its request, with its message and offset") {
  Cow cow;
  Backend &client = cow.connect();
  cow.disk.error_of = [](Request &request) {
    request.make_extras().error_text = "bad sector";
    request.make_extras().error_offset = request.offset + 600;
    return EIO;
  };
  CHECK(write(client, 0, BLOCK, 9) == 0); // needs nothing from below
  TestRequest mixed(wire::NBD_CMD_READ, 0, 2 * BLOCK);
  CHECK(mixed.run(client) == EIO);
  CHECK(mixed.extras->error_text == "bad sector");
  CHECK(mixed.extras->error_offset == BLOCK + 600);
  TestRequest partial(wire::NBD_CMD_WRITE, 3 * BLOCK, 100, 9);
  CHECK(partial.run(client) == EIO);
  CHECK(partial.extras->error_text == "bad sector");
  CHECK_FALSE(partial.extras->error_offset.has_value()); // it is not of what the client has sent
  cow.disk.error_of = nullptr;
  CHECK(read(client, 3 * BLOCK, BLOCK)[0] == Cow::original(3 * BLOCK));
}

TEST_CASE("a read-only client cannot change the copy either") {
  Cow cow;
  Backend &client = cow.connect(std::make_unique<MemoryBackend>(cow.disk), true);
  CHECK_FALSE(client.facts().can_write);
  CHECK(write(client, 0, BLOCK, 9) == EROFS);
  CHECK(run(client, wire::NBD_CMD_TRIM, 0, BLOCK) == EROFS);
  CHECK(read(client, 0, 1)[0] == Cow::original(0));
}

TEST_CASE("two clients can change parts of one block at once, and both changes stay") {
  Cow cow;
  HeldBackend::Held held;
  auto slow = [&] { return std::make_unique<HeldBackend>(cow.disk, held); };
  auto answerer = std::make_unique<HeldBackend>(cow.disk, held);
  Backend &one = cow.connect(slow());
  Backend &other = cow.connect(slow());
  TestRequest first(wire::NBD_CMD_WRITE, 10, 10, 1);
  TestRequest second(wire::NBD_CMD_WRITE, 30, 10, 2);
  TestRequest whole(wire::NBD_CMD_WRITE, BLOCK, BLOCK, 3);
  one.submit(first, Caller::may_block);
  other.submit(second, Caller::may_block);
  other.submit(whole, Caller::may_block); // of another block: it need not wait
  CHECK(whole.wait() == 0);
  CHECK_FALSE(first.is_done());
  CHECK_FALSE(second.is_done());
  answerer->answer(*held.take());
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0); // the block is there now
  const std::vector<uint8_t> block = read(one, 0, BLOCK);
  CHECK(block[9] == Cow::original(9));
  CHECK(block[15] == 1);
  CHECK(block[25] == Cow::original(25));
  CHECK(block[35] == 2);
  CHECK(cow.is_untouched());
}

TEST_CASE("a change that waits for another goes on when that one is given up") {
  Cow cow;
  HeldBackend::Held held_one;
  HeldBackend::Held held_other;
  HeldBackend answerer(cow.disk, held_other);
  Backend &one = cow.connect(std::make_unique<HeldBackend>(cow.disk, held_one));
  Backend &other = cow.connect(std::make_unique<HeldBackend>(cow.disk, held_other));
  TestRequest stuck(wire::NBD_CMD_WRITE, 10, 10, 1);
  TestRequest behind(wire::NBD_CMD_WRITE, 30, 10, 2);
  TestRequest waiting(wire::NBD_CMD_WRITE, 50, 10, 3);
  one.submit(stuck, Caller::may_block);
  other.submit(behind, Caller::may_block);
  one.submit(waiting, Caller::may_block);
  Request *child = held_one.take();
  held_one.gate.change([&] { held_one.requests.push_back(child); });
  one.give_up_unanswered();
  CHECK(waiting.wait() == ESHUTDOWN);
  CHECK_FALSE(waiting.was_given_up); // nobody has it any more
  CHECK(stuck.wait() == ESHUTDOWN);
  CHECK(stuck.was_given_up);
  CHECK_FALSE(stuck.is_released);
  answerer.answer(*held_other.take());
  CHECK(behind.wait() == 0);
  child->completers.maker().release(*child); // the late reply
  CHECK(stuck.is_released);
}

TEST_CASE("a disk of the largest size costs nothing, and a full temporary file is an error") {
  Cow cow({}, INT64_MAX);
  struct Huge final : MemoryBackend {
    explicit Huge(MemoryDisk &disk) : MemoryBackend(disk) {
      told_.size_bytes = INT64_MAX;
      told_.can_extents = false;
    }
    void submit(Request &request, Caller) override {
      if (request.data != nullptr)
        memset(request.data, 5, request.length_bytes);
      request.complete(0);
    }
  };
  Backend &client = cow.connect(std::make_unique<Huge>(cow.disk));
  const uint64_t far = uint64_t{1} << 62;
  CHECK(run(client, wire::NBD_CMD_TRIM, far, uint64_t{1} << 40) == 0);
  CHECK(read(client, far + (uint64_t{1} << 39), 1)[0] == 0);
  CHECK(read(client, far - 1, 1)[0] == 5);
  CHECK(run(client, wire::NBD_CMD_TRIM, 0, uint64_t{1} << 62) == EINVAL); // it would take minutes
  const int error = write(client, INT64_MAX - 5, 5, 9); // few file systems have files so large
  CHECK((error == 0 || error == ENOSPC || error == EINVAL));
}

TEST_CASE("a disk that has changed its size is refused with a message") {
  Cow cow;
  cow.connect();
  MemoryDisk larger{2 * SIZE};
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(larger);
  prepare(*below);
  CHECK(cow.filter->open(&below, cow.client.opening(), cow.state.get(), &cow.error) == nullptr);
  CHECK(cow.error.find(std::to_string(2 * SIZE)) != std::string::npos);
  CHECK(below != nullptr);
}
