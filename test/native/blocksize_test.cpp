// The blocksize filter in front of a disk in memory that takes only whole blocks: what it is asked,
// and that nothing is lost where clients change parts of the same block at once.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "filter_front.hpp"
#include "held_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;

namespace {

constexpr uint64_t BLOCK = 512;
constexpr uint64_t SIZE = (64 << 10) + 100; // its last part is no block

// What is below, and how it answers.
struct Below {
  bool answers_on_threads = false;
  Support fua = Support::native;
  BlockSizes sizes{};
  bool spares_copy = false; // reserves memory of its own for what is written
};

class BelowBackend final : public MemoryBackend {
public:
  BelowBackend(MemoryDisk &disk, const Below &how) : MemoryBackend(disk), how_(how) {
    told_.fua = how.fua;
    told_.block_sizes = how.sizes;
  }
  Reservation reserve(Request &request) override {
    if (!how_.spares_copy || request.type != NBD_CMD_WRITE)
      return MemoryBackend::reserve(request);
    disk_.reserved++;
    auto *memory = new uint8_t[request.length_bytes];
    request.reservation = memory;
    return {.data = memory, .takes_pages = false, .spares_copy = true};
  }
  void unreserve(Request &request) override {
    delete[] static_cast<uint8_t *>(std::exchange(request.reservation, nullptr));
    MemoryBackend::unreserve(request);
  }
  void submit(Request &request, Caller) override {
    if (how_.answers_on_threads)
      FilterFront::pool().run([this, &request] { request.complete(carry_out(request)); });
    else
      request.complete(carry_out(request));
  }

private:
  int carry_out(Request &request) {
    const bool is_spared = request.type == NBD_CMD_WRITE && request.reservation != nullptr;
    if (!is_spared)
      return perform(request);
    request.is_reserved = false; // its data are not on the disk yet
    const int error = perform(request);
    request.is_reserved = true;
    unreserve(request);
    return error;
  }

  const Below how_;
};

struct AskedBelow {
  uint16_t type;
  uint16_t flags;
  uint64_t offset;
  uint64_t length_bytes;
  bool operator==(const AskedBelow &) const = default;
};

struct Blocksize : FilterFront {
  std::vector<AskedBelow> calls; // of what is below

  explicit Blocksize(const filters::FilterOptions &options)
      : FilterFront("blocksize", options, SIZE) {
    for (uint64_t i = 0; i < SIZE; i++)
      disk.bytes[i] = static_cast<uint8_t>(1 + i % 251);
  }
  // From now on.
  void note_calls() {
    disk.error_of = [this](Request &request) {
      calls.push_back({request.type, request.flags, request.offset, request.length_bytes});
      return 0;
    };
  }
  Backend &connect_to(const Below &how) {
    return connect(std::make_unique<BelowBackend>(disk, how));
  }
};

filters::FilterOptions options(double min_block, double max_data = 0, double max_length = 0) {
  filters::FilterOptions given{{"minBlock", min_block}};
  if (max_data > 0)
    given["maxData"] = max_data;
  if (max_length > 0)
    given["maxLength"] = max_length;
  return given;
}

// ---- random requests against a model -----------------------------------------------------------

struct ModelCase {
  uint64_t block;
  uint64_t max_data;
  uint64_t max_length;
  Below below;
  bool has_errors;
};

// Rounds of requests that are in progress at once and do not overlap, though their blocks do.
class Model {
public:
  Model(const ModelCase &given, unsigned seed)
      : given_(given), random_(seed),
        front_(options(static_cast<double>(given.block), static_cast<double>(given.max_data),
                       static_cast<double>(given.max_length))),
        size_(SIZE / given.block * given.block) {
    for (int i = 0; i < 2; i++)
      clients_.push_back(&front_.connect_to(given.below));
    front_.disk.error_of = [this](Request &request) { return look_at(request); };
    model_ = front_.disk.bytes;
  }

  void run_round() {
    std::vector<std::unique_ptr<TestRequest>> requests;
    uint64_t at = number(size_ / 2);
    for (uint64_t left = 2 + number(12); left > 0 && at < size_; left--) {
      const uint64_t longest = number(4) == 0 ? 20'000 : 700;
      const uint64_t bytes = std::min(size_ - at, 1 + number(longest));
      requests.push_back(make(at, bytes));
      at += bytes + (number(3) == 0 ? number(600) : 0);
    }
    for (const auto &request : requests)
      start(*request);
    for (const auto &request : requests)
      check(*request, request->wait());
    CHECK(front_.disk.bytes == model_);
    CHECK(front_.disk.reserved == 0);
  }

  uint64_t wrong_calls() const { return wrong_; }
  uint64_t parts() const { return parts_; }

private:
  uint64_t number(uint64_t below) { return random_() % below; }

  // Any thread.
  int look_at(const Request &request) {
    const bool has_data = request.type == NBD_CMD_READ || request.type == NBD_CMD_WRITE ||
                          request.type == NBD_CMD_CACHE;
    const uint64_t most = has_data ? given_.max_data : given_.max_length;
    if ((request.offset | request.length_bytes) % given_.block != 0 || request.length_bytes > most)
      wrong_++;
    const uint64_t count = calls_++;
    return given_.has_errors && count * 2654435761 % 97 == 0 ? EIO : 0;
  }

  std::unique_ptr<TestRequest> make(uint64_t offset, uint64_t bytes) {
    constexpr uint16_t TYPES[] = {NBD_CMD_WRITE,        NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_READ,
                                  NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM,  NBD_CMD_CACHE};
    const uint16_t type = TYPES[number(std::size(TYPES))];
    parts_ += (offset | bytes) % given_.block != 0 ? 1 : 0;
    auto request =
        std::make_unique<TestRequest>(type, offset, bytes, static_cast<uint8_t>(number(256)));
    if (type != NBD_CMD_READ && type != NBD_CMD_CACHE && number(3) == 0)
      request->flags = NBD_CMD_FLAG_FUA;
    return request;
  }

  // As a connection does: a write may be received where it lies.
  void start(TestRequest &request) {
    Backend &client = *clients_[number(clients_.size())];
    if (request.type == NBD_CMD_WRITE)
      if (uint8_t *place = client.reserve(request).data) {
        std::memcpy(place, request.content.data(), request.length_bytes);
        request.is_reserved = true;
        request.data = place;
      }
    client.submit(request, number(2) == 0 ? Caller::may_block : Caller::must_not_block);
  }

  void check(const TestRequest &request, int error) {
    CHECK((error == 0 || (error == EIO && given_.has_errors)));
    const std::vector<uint8_t> &bytes = front_.disk.bytes;
    const uint64_t end = request.offset + request.length_bytes;
    unsigned wrong = 0;
    for (uint64_t i = request.offset; i < end; i++) {
      const uint8_t wanted = byte_after(request, i);
      if (request.type == NBD_CMD_READ) {
        wrong += error == 0 && request.content[i - request.offset] != model_[i] ? 1 : 0;
        continue;
      }
      const bool is_known = bytes[i] == wanted || (error != 0 && bytes[i] == model_[i]);
      wrong += is_known ? 0 : 1;
      model_[i] = bytes[i];
    }
    CHECK(wrong == 0);
  }

  uint8_t byte_after(const TestRequest &request, uint64_t at) const {
    const uint64_t block = at / given_.block * given_.block;
    const bool is_trimmed =
        block >= request.offset && block + given_.block <= request.offset + request.length_bytes;
    switch (request.type) {
    case NBD_CMD_WRITE:
      return request.content[at - request.offset];
    case NBD_CMD_WRITE_ZEROES:
      return 0;
    case NBD_CMD_TRIM:
      return is_trimmed ? 0 : model_[at];
    default:
      return model_[at];
    }
  }

  const ModelCase given_;
  std::mt19937 random_;
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> wrong_{0};
  uint64_t parts_ = 0;
  Blocksize front_;
  const uint64_t size_;
  std::vector<Backend *> clients_;
  std::vector<uint8_t> model_;
};

} // namespace

TEST_CASE("random requests change exactly their ranges, even with others in progress") {
  const Below now{};
  const Below later{.answers_on_threads = true};
  const Below flushes{.answers_on_threads = true, .fua = Support::emulate};
  const Below spares{.answers_on_threads = true, .spares_copy = true};
  for (const ModelCase &given : {
           ModelCase{1, 1000, 3000, later, false},
           ModelCase{512, 4096, 8192, now, false},
           ModelCase{512, 4096, 8192, later, false},
           ModelCase{512, 4096, 8192, flushes, true},
           ModelCase{4096, 8192, 4096, later, true},
           ModelCase{4096, 65536, 65536, later, false},
           ModelCase{512, 65536, 65536, spares, true},
       }) {
    Model model(given, static_cast<unsigned>(given.block + given.max_data));
    for (int round = 0; round < 200; round++)
      model.run_round();
    CHECK(model.wrong_calls() == 0);
    CHECK((given.block == 1 || model.parts() > 100));
  }
}

TEST_CASE("the disk gets whole blocks while clients may send any size") {
  Blocksize front(options(4096));
  const Facts &facts = front.connect().facts();
  CHECK(facts.size_bytes == SIZE / 4096 * 4096);
  REQUIRE(facts.block_sizes);
  CHECK(facts.block_sizes->minimum == 1);
  CHECK(facts.block_sizes->preferred == 4096);
  CHECK(facts.block_sizes->maximum == UINT32_MAX);
  CHECK_FALSE(facts.block_sizes_bind);
}

TEST_CASE("the plugin's own block sizes count, too") {
  Blocksize front({});
  Backend &client = front.connect_to({.sizes = {1024, 8192, 16384}});
  CHECK(client.facts().block_sizes->preferred == 8192);
  front.note_calls();
  CHECK(run(client, NBD_CMD_READ, 100, 20'000) == 0);
  CHECK(front.calls == std::vector<AskedBelow>{{NBD_CMD_READ, 0, 0, 1024},
                                               {NBD_CMD_READ, 0, 1024, 16384},
                                               {NBD_CMD_READ, 0, 17408, 2048},
                                               {NBD_CMD_READ, 0, 19456, 1024}});
}

TEST_CASE("a client is refused if the limits leave no room for a block") {
  Blocksize front({{"maxData", 512.0}});
  CHECK(front.try_connect(std::make_unique<BelowBackend>(
            front.disk, Below{.sizes = {4096, 4096, UINT32_MAX}})) == nullptr);
  CHECK(front.error.find("4096") != std::string::npos);
}

TEST_CASE("options that contradict each other are refused") {
  for (const filters::FilterOptions &given : {
           options(513),
           options(128 << 10),
           options(512, 1000),
           options(512, 0, 1000),
           filters::FilterOptions{{"maxData", 0.0}},
       })
    CHECK(Blocksize(given).filter == nullptr);
}

TEST_CASE("a payload that begins or ends inside a block is not received in place") {
  for (const uint64_t block : {uint64_t{1}, BLOCK}) {
    Blocksize front(options(static_cast<double>(block)));
    Backend &client = front.connect();
    TestRequest write(NBD_CMD_WRITE, BLOCK, 2 * BLOCK, 7);
    const uint8_t *place = client.reserve(write).data;
    CHECK(place == (block == 1 ? &front.disk.bytes[BLOCK] : nullptr));
    if (place != nullptr)
      client.unreserve(write);
    CHECK(front.disk.reserved == 0);
    TestRequest read(NBD_CMD_READ, BLOCK, BLOCK);
    CHECK(client.reserve(read).data == &front.disk.bytes[BLOCK]);
  }
}

TEST_CASE("a client that stops in the middle of a write delays no other") {
  Blocksize front(options(BLOCK));
  Backend &stopped = front.connect_to({.spares_copy = true});
  Backend &writer = front.connect_to({.spares_copy = true});
  TestRequest whole(NBD_CMD_WRITE, 0, 2 * BLOCK, 7);
  uint8_t *memory = stopped.reserve(whole).data;
  REQUIRE(memory != nullptr);
  CHECK(run(writer, NBD_CMD_WRITE, 10, 20, 0, 9) == 0);
  CHECK(run(writer, NBD_CMD_WRITE, 0, BLOCK, 0, 8) == 0);
  CHECK(run(writer, NBD_CMD_WRITE, 10, 20, 0, 9) == 0);
  CHECK(front.disk.bytes[9] == 8);
  CHECK(front.disk.bytes[10] == 9);

  // And if it goes on after all, it is as if it had begun now.
  std::memset(memory, 7, 2 * BLOCK);
  whole.is_reserved = true;
  whole.data = memory;
  CHECK(whole.run(stopped) == 0);
  CHECK(front.disk.bytes[10] == 7);
  CHECK(front.disk.reserved == 0);
}

TEST_CASE("a request given up while it waits leaves no reservation behind") {
  MemoryDisk disk{SIZE};
  HeldBackend::Held held;
  Blocksize front(options(BLOCK));
  auto opened = std::make_unique<HeldBackend>(disk, held);
  HeldBackend &holding = *opened;
  Backend &first = front.connect(std::move(opened));
  Backend &second = front.connect_to({.spares_copy = true});
  TestRequest part(NBD_CMD_WRITE, 1, 1, 7);
  first.submit(part, Caller::may_block);
  TestRequest whole(NBD_CMD_WRITE, 0, BLOCK, 8);
  whole.data = second.reserve(whole).data;
  REQUIRE(whole.data != nullptr);
  whole.is_reserved = true;
  second.submit(whole, Caller::may_block);
  CHECK_FALSE(whole.is_done());
  second.give_up_unanswered();
  CHECK(whole.wait() == ESHUTDOWN);
  CHECK(front.disk.reserved == 0);
  holding.answer(*held.take());
  holding.answer(*held.take());
  CHECK(part.wait() == 0);
}

TEST_CASE("changes of one block wait for each other, but not for other blocks") {
  MemoryDisk disk{SIZE};
  HeldBackend::Held held;
  Blocksize front(options(BLOCK));
  auto opened = std::make_unique<HeldBackend>(disk, held);
  HeldBackend &below = *opened;
  Backend &client = front.connect(std::move(opened));
  TestRequest first(NBD_CMD_WRITE, 1, 1, 7);
  TestRequest second(NBD_CMD_WRITE, 3, 1, 8);
  TestRequest other(NBD_CMD_WRITE, BLOCK + 3, 1, 9);
  client.submit(first, Caller::may_block);
  client.submit(second, Caller::may_block);
  client.submit(other, Caller::may_block);
  Request *of_first = held.take();
  Request *of_other = held.take();
  CHECK(of_other->offset == BLOCK);
  CHECK(held.requests.empty());
  below.answer(*of_first);
  below.answer(*held.take());
  CHECK(first.wait() == 0);
  Request *of_second = held.take();
  CHECK(of_second->offset == 0);

  // Nobody waits for ever.
  TestRequest waiting(NBD_CMD_WRITE, 3, 1, 8);
  client.submit(waiting, Caller::may_block);
  client.give_up_unanswered();
  CHECK(waiting.wait() == ESHUTDOWN);
  below.answer(*of_second);
  below.answer(*of_other);
  for (TestRequest *rest : {&second, &other})
    CHECK(rest->wait() == ESHUTDOWN);
}

TEST_CASE("a trim leaves partial blocks alone; caching covers their whole blocks") {
  Blocksize front(options(BLOCK, 1024, 2048));
  Backend &client = front.connect();
  front.note_calls();
  CHECK(run(client, NBD_CMD_TRIM, 100, 4000) == 0);
  CHECK(run(client, NBD_CMD_TRIM, 1, 1) == 0);
  CHECK(run(client, NBD_CMD_CACHE, 600, 1000) == 0);
  CHECK(front.calls == std::vector<AskedBelow>{{NBD_CMD_TRIM, 0, 512, 2048},
                                               {NBD_CMD_TRIM, 0, 2560, 1536},
                                               {NBD_CMD_CACHE, 0, 512, 1024},
                                               {NBD_CMD_CACHE, 0, 1536, 512}});
}

TEST_CASE("a fast zero that would need several calls is refused") {
  Blocksize front(options(BLOCK, 0, 2048));
  Backend &client = front.connect();
  CHECK(run(client, NBD_CMD_WRITE_ZEROES, 0, 2048, NBD_CMD_FLAG_FAST_ZERO) == 0);
  CHECK(run(client, NBD_CMD_WRITE_ZEROES, 0, 2560, NBD_CMD_FLAG_FAST_ZERO) == ENOTSUP);
  CHECK(run(client, NBD_CMD_WRITE_ZEROES, 0, 100, NBD_CMD_FLAG_FAST_ZERO) == ENOTSUP);
}

TEST_CASE("if FUA is emulated below, one flush follows all pieces of a write") {
  Blocksize front(options(BLOCK, 1024));
  Backend &client = front.connect_to({.fua = Support::emulate});
  front.note_calls();
  CHECK(run(client, NBD_CMD_WRITE, 0, 2048, NBD_CMD_FLAG_FUA) == 0);
  CHECK(front.calls == std::vector<AskedBelow>{{NBD_CMD_WRITE, 0, 0, 1024},
                                               {NBD_CMD_WRITE, 0, 1024, 1024},
                                               {NBD_CMD_FLUSH, 0, 0, 0}});
}

TEST_CASE("extents are of whole blocks") {
  Blocksize front(options(2048));
  auto &bytes = front.disk.bytes;
  std::fill(bytes.begin(), bytes.end(), 0);
  bytes[5000] = 1; // the third 2048 bytes have 512 of data
  Backend &client = front.connect();
  const auto first = extents_of(client, 100, 10'000);
  REQUIRE(first.size() == 1);
  CHECK(first[0].length_bytes == 4096 - 100);
  CHECK(first[0].flags == 3);
  const auto mixed = extents_of(client, 4096, 4096);
  REQUIRE(mixed.size() == 1);
  CHECK(mixed[0].length_bytes == 2048);
  CHECK(mixed[0].flags == 0);
  // Below tells of one extent alone, which ends within the block: it is asked about the rest.
  const auto one = extents_of(client, 4097, 4, NBD_CMD_FLAG_REQ_ONE);
  REQUIRE(one.size() == 1);
  CHECK(one[0].length_bytes == 2047);
  CHECK(one[0].flags == 0);
}
