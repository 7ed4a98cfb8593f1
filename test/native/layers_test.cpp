// Stacks of layers, hostile ones among them, keep the contract of backend.hpp: random requests of
// two clients are compared with a simple model, while the disk below fails now and then.
#include <doctest/doctest.h>

#include <cerrno>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "backend/chain.hpp"
#include "host/log.hpp"
#include "memory_backend.hpp"
#include "memory_bottom.hpp"
#include "random_stack.hpp"
#include "system_resources.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

constexpr uint64_t SIZE = 20 * 4096 + 300;
constexpr unsigned ROUNDS = 40;
constexpr uint32_t SEEDS = 60;
#if defined(__SANITIZE_THREAD__)
constexpr uint32_t SEEDS_ALONE = 1;
#else
constexpr uint32_t SEEDS_ALONE = 3;
#endif

// Can only read, write, trim and flush.
struct PlainBackend final : MemoryBackend {
  explicit PlainBackend(MemoryDisk &disk) : MemoryBackend(disk) {
    told_.zero = told_.fua = told_.cache = Support::emulate;
    told_.can_extents = false;
  }
  static bool can(const Request &request) {
    return request.type <= wire::NBD_CMD_TRIM && (request.flags & wire::NBD_CMD_FLAG_FUA) == 0;
  }
};

// The same, or one that can do less.
class PlainOrMemoryBottom final : public MemoryBottom {
public:
  PlainOrMemoryBottom(MemoryDisk &disk, bool is_plain, TestClient &client)
      : MemoryBottom(disk, client), is_plain_(is_plain) {}
  std::shared_ptr<Bottom> of_no_client() override {
    return std::make_shared<PlainOrMemoryBottom>(disk, is_plain_, client);
  }
  std::unique_ptr<Backend> open(const std::string &name, bool readonly, Submitter by) override {
    if (is_plain_)
      return std::make_unique<PlainBackend>(disk);
    return MemoryBottom::open(name, readonly, by);
  }

private:
  const bool is_plain_;
};

// Draws what filters a stack has, the outermost first.
std::vector<std::string> random_names(std::mt19937 &random) {
  std::vector<std::string> names(1 + random() % 5, "hostile");
  for (std::string &name : names)
    if (random() % 4 != 0)
      name = STACKED[random() % STACKED.size()];
  return names;
}

// Two clients of one disk, and what they must see.
class Simulation {
public:
  explicit Simulation(uint32_t seed) : Simulation(seed, {}) {}
  // In front of the disk, the outermost first.
  Simulation(uint32_t seed, std::vector<std::string> names) : random_(seed) {
    if (names.empty())
      names = random_names(random_);
    is_plain_ = draw(2) == 0;
    if (is_plain_)
      names.insert(names.end(), {"emulation", "hostile"});
    for (auto name = names.rbegin(); name != names.rend(); ++name)
      stack_.add(*name);
    make_disk();
    disk_.error_of = [this](Request &request) { return inject(request); };
    chain_ = stack_.chain();
    chain_->get_ready(static_cast<int>(ThreadModel::parallel));
    for (StackClient &client : of_clients_) {
      bottoms_.emplace_back(disk_, is_plain_, client.context);
      const std::string disk;
      std::string error;
      clients_.push_back(chain_->open(bottoms_.back(), {"", false, &disk, WANTS_ALL}, &error));
      REQUIRE_MESSAGE(clients_.back(), stack_.words() << ": " << error);
      CHECK(clients_.back()->facts().size_bytes == stack_.size_bytes());
    }
  }

  void run() {
    INFO("stack:" << stack_.words());
    for (unsigned round = 0; round < ROUNDS; round++)
      run_batch(false);
    fails_ = false;
    read_all(*clients_[0]);
    kill();
    fails_ = false;
    read_all(*clients_[0]);
    clients_[0]->close();
    clients_.clear();
    end();
    CHECK(faults_.changed_fields == 0);
    CHECK(faults_.submits_in_completions == 0);
    CHECK(beyond_plain_ == 0);
    CHECK(disk_.reserved == 0);
    check_disk();
  }

private:
  unsigned draw(unsigned choices) { return random_() % choices; }

  void make_disk() {
    for (uint64_t i = 0; i < SIZE; i++)
      disk_.bytes[i] = static_cast<uint8_t>(i / 512 + 1);
    if (stack_.has("partition"))
      make_partition();
    initial_ = disk_.bytes;
    const auto begin = initial_.begin() + static_cast<ptrdiff_t>(stack_.begin_bytes());
    model_.assign(begin, begin + static_cast<ptrdiff_t>(stack_.there_bytes()));
    model_.resize(stack_.size_bytes());
    is_known_.assign(stack_.size_bytes(), true);
  }

  // An MBR with one, up to the end of the disk.
  void make_partition() {
    constexpr size_t ENTRY = 446;
    const auto first = static_cast<uint32_t>(RandomStack::PARTITION_BYTES / 512);
    const auto sectors = static_cast<uint32_t>(SIZE / 512) - first;
    std::fill_n(disk_.bytes.begin(), 512, uint8_t{0});
    disk_.bytes[ENTRY + 4] = 0x83;
    memcpy(&disk_.bytes[ENTRY + 8], &first, sizeof first); // little-endian, as we are
    memcpy(&disk_.bytes[ENTRY + 12], &sectors, sizeof sectors);
    disk_.bytes[510] = 0x55;
    disk_.bytes[511] = 0xaa;
  }

  // Nothing that was given up may keep the chain for ever.
  void end() {
    chain_->end();
    const std::weak_ptr<Chain> last = chain_;
    chain_.reset();
    for (unsigned tries = 0; !last.expired() && tries < 10'000; tries++)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(last.expired());
  }

  // What is outside of what clients see, or protected, or behind a copy on write, is as it was.
  void check_disk() {
    const auto [first, end] = stack_.protected_bytes();
    const uint64_t begin = stack_.begin_bytes();
    const bool has_cow = stack_.has("cow");
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < SIZE; i++) {
      const bool is_seen = i >= begin && i < begin + stack_.there_bytes();
      if (!is_seen || (i >= first && i < end) || has_cow)
        wrong += disk_.bytes[i] != initial_[i];
    }
    CHECK(wrong == 0);
  }

  int inject(Request &request) {
    beyond_plain_ += is_plain_ && !PlainBackend::can(request) ? 1 : 0;
    const unsigned count = ++injections_;
    if (!fails_ || (count * 2654435761U >> 16) % 12 != 0)
      return 0;
    request.make_extras().error_text = "injected";
    return EIO;
  }

  // Some requests at a time, of both clients, to parts that do not overlap: blocks of cow do.
  void run_batch(bool one_client) {
    std::deque<TestRequest> requests;
    std::vector<uint64_t> edges;
    fails_ = draw(4) == 0;
    const uint64_t size = stack_.size_bytes();
    for (unsigned i = 0; i < 12; i++)
      edges.push_back(draw(3) == 0 ? random_() % (size / 4096) * 4096 : random_() % size);
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    for (size_t i = 0; i + 1 < edges.size(); i++) {
      Backend &client = *clients_[one_client ? 1 : draw(2)];
      submit(client, requests, edges[i], edges[i + 1] - edges[i]);
    }
    if (one_client) {
      clients_[1]->on_client_gone();
      clients_[1]->give_up_unanswered();
    }
    for (TestRequest &request : requests)
      settle(request);
  }

  void submit(Backend &client, std::deque<TestRequest> &requests, uint64_t offset, uint64_t bytes) {
    static constexpr uint16_t TYPES[] = {
        wire::NBD_CMD_READ,         wire::NBD_CMD_READ,  wire::NBD_CMD_WRITE,
        wire::NBD_CMD_WRITE,        wire::NBD_CMD_TRIM,  wire::NBD_CMD_FLUSH,
        wire::NBD_CMD_WRITE_ZEROES, wire::NBD_CMD_CACHE, wire::NBD_CMD_BLOCK_STATUS};
    const uint16_t wanted = TYPES[draw(9)];
    const uint16_t type = can(client.facts(), wanted) ? wanted : wire::NBD_CMD_READ;
    const bool has_range = type != wire::NBD_CMD_FLUSH;
    TestRequest &request = requests.emplace_back(
        type, has_range ? offset : 0, has_range ? bytes : 0, static_cast<uint8_t>(random_()));
    if (modifies(request) && client.facts().fua != Support::none && draw(2) == 0)
      request.flags = wire::NBD_CMD_FLAG_FUA;
    if (TestRequest::has_data(request.type) && draw(2) == 0 && !reserve(client, request))
      return;
    client.submit(request, draw(4) == 0 ? Caller::must_not_block : Caller::may_block);
  }

  static bool can(const Facts &facts, uint16_t type) {
    switch (type) {
    case wire::NBD_CMD_WRITE:
      return facts.can_write;
    case wire::NBD_CMD_TRIM:
      return facts.can_write && facts.can_trim;
    case wire::NBD_CMD_WRITE_ZEROES:
      return facts.can_write && facts.zero != Support::none;
    case wire::NBD_CMD_FLUSH:
      return facts.can_flush;
    case wire::NBD_CMD_CACHE:
      return facts.cache != Support::none;
    default:
      return true;
    }
  }

  // False: it need not be submitted.
  bool reserve(Backend &client, TestRequest &request) {
    uint8_t *data = client.reserve(request).data;
    if (data == nullptr)
      return true;
    if (request.type == wire::NBD_CMD_READ) {
      request.is_reserved = true;
      request.answer = {Answer::Kind::disk, data};
      request.complete(request, 0);
      return false;
    }
    memcpy(data, request.data, request.length_bytes);
    if (draw(4) == 0) { // the client has left with half of its payload sent
      client.unreserve(request);
      request.complete(request, ESHUTDOWN);
      return false;
    }
    request.data = data;
    request.is_reserved = true;
    return true;
  }

  static bool modifies(const Request &request) {
    return request.type == wire::NBD_CMD_WRITE || request.type == wire::NBD_CMD_TRIM ||
           request.type == wire::NBD_CMD_WRITE_ZEROES;
  }

  void settle(TestRequest &request) {
    const int error = request.wait();
    REQUIRE(error >= 0);
    const bool is_refused = stack_.may_refuse_with(error);
    CHECK_MESSAGE((error == 0 || error == EIO || error == ESHUTDOWN || is_refused), error);
    if (error == EIO) // by the disk, or by a filter
      CHECK_MESSAGE(request.extras->error_text.starts_with("inject"), request.extras->error_text);
    if (request.was_given_up)
      REQUIRE(request.gate.wait([&] { return request.is_released; }));
    if (modifies(request))
      change_model(request, error);
    else if (error == 0 && request.type == wire::NBD_CMD_READ)
      compare(request);
    else if (error == 0 && request.type == wire::NBD_CMD_BLOCK_STATUS)
      compare_extents(request);
  }

  void change_model(const TestRequest &request, int error) {
    const bool is_known = error == 0 && !is_trim_perhaps_seen(request);
    for (uint64_t i = 0; i < request.length_bytes; i++) {
      is_known_[request.offset + i] = is_known;
      model_[request.offset + i] =
          request.type == wire::NBD_CMD_WRITE ? request.content[i] : uint8_t{0};
    }
  }

  bool is_trim_perhaps_seen(const TestRequest &request) const {
    return stack_.may_keep_trimmed() && request.type == wire::NBD_CMD_TRIM;
  }

  void compare(const TestRequest &request) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < request.length_bytes; i++)
      wrong += is_known_[request.offset + i] && model_[request.offset + i] != request.content[i];
    CHECK(wrong == 0);
  }

  // What is called zero reads as zero; all that was asked about has been told of, or its beginning.
  void compare_extents(const TestRequest &request) {
    uint64_t at = request.offset;
    uint64_t wrong = 0;
    for (const Extent &extent : request.extras->statuses[0].extents)
      for (uint64_t end = at + extent.length_bytes; at < end && at < model_.size(); at++)
        wrong += (extent.flags & 2) != 0 && is_known_[at] && model_[at] != 0;
    CHECK(wrong == 0);
    const uint64_t least = stack_.may_tell_extents_in_part() ? 1 : request.length_bytes;
    CHECK(at >= request.offset + least);
  }

  void read_all(Backend &client) {
    TestRequest request(wire::NBD_CMD_READ, 0, stack_.size_bytes());
    client.submit(request, Caller::may_block);
    settle(request);
  }

  // A client whose requests get stuck, and that leaves.
  void kill() {
    of_clients_[1].is_stuck = true;
    run_batch(true);
    clients_[1]->close();
    clients_[1].reset();
  }

  std::mt19937 random_;
  MemoryDisk disk_{SIZE};
  Faults faults_;
  StackClients of_clients_;
  RandomStack stack_{static_cast<uint32_t>(random_()), SIZE, faults_, of_clients_};
  std::vector<uint8_t> initial_;
  std::vector<uint8_t> model_; // of what clients see
  std::vector<bool> is_known_; // else a change of it has failed
  std::atomic<bool> fails_{false};
  std::atomic<unsigned> injections_{0};
  bool is_plain_ = false;
  std::atomic<unsigned> beyond_plain_{0};
  std::shared_ptr<Chain> chain_;
  std::deque<PlainOrMemoryBottom> bottoms_;
  std::vector<std::unique_ptr<Backend>> clients_;
};

void run(uint32_t seeds, const std::vector<std::string> &names) {
  host::log_configure("test", false, host::LogSink::none); // requests are made to fail
  for (uint32_t seed = 1; seed <= seeds; seed++) {
    CAPTURE(seed);
    Simulation(seed, names).run();
  }
}

} // namespace

TEST_CASE("stacks of any layers keep the contract and the data") {
  run(SEEDS, {});
}

TEST_CASE("each filter between hostile layers keeps the contract and the data") {
  for (const char *name : STACKED)
    run(SEEDS_ALONE, {"hostile", name, "hostile"});
}
