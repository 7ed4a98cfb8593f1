// Stacks of layers, hostile ones among them, keep the contract of backend.hpp: random requests of
// two clients are compared with a simple model, while the disk below fails now and then.
#include <doctest/doctest.h>

#include <cerrno>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/chain.hpp"
#include "backend/emulate.hpp"
#include "filters/registry.hpp"
#include "host/log.hpp"
#include "hostile_layer.hpp"
#include "memory_backend.hpp"
#include "system_resources.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

constexpr uint64_t SIZE = 20 * 4096 + 300;
constexpr unsigned ROUNDS = 40;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint32_t SEEDS = 200;
#else
constexpr uint32_t SEEDS = 60;
#endif

struct HostileFilter final : Filter {
  HostileFilter(uint32_t seed, Faults &faults) : seed(seed), faults(faults) {}
  const char *name() const override { return "hostile"; }
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const Opening &, DiskState *,
                                std::string *) override {
    auto layer = std::make_unique<HostileLayer>(std::move(*below), seed++,
                                                system_resources().of_backends.threads, faults);
    layers.push_back(layer.get());
    return layer;
  }
  uint32_t seed;
  Faults &faults;
  std::vector<HostileLayer *> layers;
};

struct EmulationFilter final : Filter {
  const char *name() const override { return "emulation"; }
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const Opening &, DiskState *,
                                std::string *) override {
    return std::make_unique<Emulation>(std::move(*below), system_resources().of_backends.threads);
  }
};

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

// A plugin of which nothing but opening is asked.
class MemoryBottom final : public Bottom {
public:
  MemoryBottom(MemoryDisk &disk, bool is_plain, TestClient &client)
      : disk_(disk), is_plain_(is_plain), client_(client) {}
  host::CallContext &context() override { return client_; }
  const Resources &resources() override { return system_resources().of_backends; }
  ThreadModel thread_model() override { return ThreadModel::parallel; }
  unsigned threads() override { return 16; }
  bool preconnect(bool) override { return true; }
  std::optional<std::vector<ExportEntry>> list_exports(bool) override { return {}; }
  std::optional<std::string> default_export(bool) override { return ""; }
  std::shared_ptr<Bottom> of_no_client() override {
    return std::make_shared<MemoryBottom>(disk_, is_plain_, client_);
  }
  std::unique_ptr<Backend> open(const std::string &, bool, Submitter) override {
    if (is_plain_)
      return std::make_unique<PlainBackend>(disk_);
    return std::make_unique<MemoryBackend>(disk_);
  }

private:
  MemoryDisk &disk_;
  const bool is_plain_;
  TestClient &client_;
};

// Two clients of one disk, and what they must see.
class Simulation {
public:
  explicit Simulation(uint32_t seed) : random_(seed) {
    for (uint64_t i = 0; i < SIZE; i++)
      disk_.bytes[i] = static_cast<uint8_t>(i / 512 + 1);
    initial_ = model_ = disk_.bytes;
    is_known_.assign(SIZE, true);
    disk_.error_of = [this](Request &request) { return inject(request); };
    make_chain();
    for (unsigned i = 0; i < 2; i++) {
      MemoryBottom bottom(disk_, is_plain_, client_);
      const std::string disk;
      std::string error;
      clients_.push_back(chain_->open(bottom, {"", false, &disk, {}}, &error));
      REQUIRE(clients_.back());
    }
  }

  void run() {
    INFO("stack: " << stack_);
    for (unsigned round = 0; round < ROUNDS; round++)
      run_batch(false);
    fails_ = false;
    read_all(*clients_[0]);
    kill(1);
    fails_ = false;
    read_all(*clients_[0]);
    clients_[0]->close();
    chain_->end();
    CHECK(faults_.changed_fields == 0);
    CHECK(faults_.submits_in_completions == 0);
    CHECK(beyond_plain_ == 0);
    CHECK(disk_.reserved == 0);
    if (has_cow_)
      CHECK(disk_.bytes == initial_);
  }

private:
  unsigned draw(unsigned choices) { return random_() % choices; }

  void make_chain() {
    std::vector<ChainFilter> filters;
    const unsigned layers = 1 + draw(5);
    for (unsigned i = 0; i < layers; i++) {
      static const char *const NAMES[] = {"hostile", "hostile", "cow",  "cache",    "delay",
                                          "error",   "log",     "rate", "openonce", "readonly"};
      const char *name = NAMES[draw(draw(4) == 0 ? 10 : 9)];
      stack_ += std::string(" ") + name;
      filters.push_back({make(name), nullptr});
    }
    is_plain_ = draw(2) == 0;
    if (is_plain_) {
      stack_ += " emulation hostile";
      filters.push_back({std::make_unique<EmulationFilter>(), nullptr});
      filters.push_back({make("hostile"), nullptr});
    }
    chain_ = std::make_shared<Chain>(std::move(filters));
  }

  std::unique_ptr<Filter> make(const std::string &name) {
    if (name == "hostile") {
      auto filter = std::make_unique<HostileFilter>(random_(), faults_);
      hostile_.push_back(filter.get());
      return filter;
    }
    filters::FilterOptions options;
    if (name == "cow") {
      has_cow_ = true;
      options = {{"blockBytes", 4096.0}, {"onRead", draw(3) == 0}, {"onCache", draw(2) == 0}};
    } else if (name == "cache") {
      static const char *const MODES[] = {"writeback", "writethrough", "unsafe"};
      has_cache_ = true;
      options = {{"blockBytes", 4096.0},
                 {"mode", std::string(MODES[draw(3)])},
                 {"onRead", draw(2) == 0},
                 {"maxBytes", draw(2) * 5 * 4096.0}};
    } else if (name == "delay") {
      options = {{"readMs", static_cast<double>(draw(2))},
                 {"writeMs", static_cast<double>(draw(2))}};
    } else if (name == "error") {
      options = {{"pwriteRate", 0.2}, {"zeroRate", 0.2}};
    } else if (name == "log") {
      options = {{"file", std::string("/dev/null")}};
      if (draw(20) == 0) // they take their time
        options["script"] = std::string(":");
    } else if (name == "rate") {
      options = {{"bits", 1e9}, {"connectionBits", 2e9}, {"burstSeconds", 0.001}};
    }
    std::string error;
    auto filter = filters::make_filter(name, options, system_resources().of_backends, &error);
    REQUIRE(filter);
    return filter;
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
    for (unsigned i = 0; i < 12; i++)
      edges.push_back(draw(3) == 0 ? random_() % (SIZE / 4096) * 4096 : random_() % SIZE);
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
    static constexpr uint16_t TYPES[] = {wire::NBD_CMD_READ,  wire::NBD_CMD_READ,
                                         wire::NBD_CMD_WRITE, wire::NBD_CMD_WRITE,
                                         wire::NBD_CMD_TRIM,  wire::NBD_CMD_WRITE_ZEROES,
                                         wire::NBD_CMD_CACHE, wire::NBD_CMD_BLOCK_STATUS};
    TestRequest &request =
        requests.emplace_back(TYPES[draw(8)], offset, bytes, static_cast<uint8_t>(random_()));
    if (!client.facts().can_write && modifies(request))
      request.type = wire::NBD_CMD_READ, request.content.resize(bytes),
      request.data = request.content.data();
    if (modifies(request) && draw(2) == 0)
      request.flags = wire::NBD_CMD_FLAG_FUA;
    if (TestRequest::has_data(request.type) && draw(2) == 0 && !reserve(client, request))
      return;
    client.submit(request, draw(4) == 0 ? Caller::must_not_block : Caller::may_block);
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
    CHECK((error == 0 || error == EIO || error == ESHUTDOWN));
    if (error == EIO)
      CHECK(request.extras->error_text.starts_with("inject")); // by the disk, or by a filter
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
    for (uint64_t i = 0; i < request.length_bytes; i++) {
      is_known_[request.offset + i] = error == 0 && !is_trim_seen_late(request);
      model_[request.offset + i] =
          request.type == wire::NBD_CMD_WRITE ? request.content[i] : uint8_t{0};
    }
  }

  // What is in a cache stays there while it is trimmed below.
  bool is_trim_seen_late(const TestRequest &request) const {
    return has_cache_ && request.type == wire::NBD_CMD_TRIM;
  }

  void compare(const TestRequest &request) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < request.length_bytes; i++)
      wrong += is_known_[request.offset + i] && model_[request.offset + i] != request.content[i];
    CHECK(wrong == 0);
  }

  // What is called zero reads as zero; all that was asked about has been told of.
  void compare_extents(const TestRequest &request) {
    uint64_t at = request.offset;
    uint64_t wrong = 0;
    for (const Extent &extent : request.extras->statuses[0].extents)
      for (uint64_t end = at + extent.length_bytes; at < end && at < SIZE; at++)
        wrong += (extent.flags & 2) != 0 && is_known_[at] && model_[at] != 0;
    CHECK(wrong == 0);
    CHECK(at >= request.offset + request.length_bytes);
  }

  void read_all(Backend &client) {
    TestRequest request(wire::NBD_CMD_READ, 0, SIZE);
    client.submit(request, Caller::may_block);
    settle(request);
  }

  // A client whose requests get stuck, and that leaves.
  void kill(size_t index) {
    for (HostileFilter *filter : hostile_)
      if (index < filter->layers.size()) // else it is for all clients
        filter->layers[index]->hold();
    run_batch(true);
    clients_[index]->close();
    clients_[index].reset();
  }

  std::mt19937 random_;
  MemoryDisk disk_{SIZE};
  TestClient client_;
  std::vector<uint8_t> initial_;
  std::vector<uint8_t> model_;
  std::vector<bool> is_known_; // else a change of it has failed
  std::atomic<bool> fails_{false};
  std::atomic<unsigned> injections_{0};
  Faults faults_;
  std::string stack_;
  bool has_cow_ = false;
  bool has_cache_ = false;
  bool is_plain_ = false;
  std::atomic<unsigned> beyond_plain_{0};
  std::vector<HostileFilter *> hostile_;
  std::shared_ptr<Chain> chain_;
  std::vector<std::unique_ptr<Backend>> clients_;
};

} // namespace

TEST_CASE("stacks of any layers keep the contract and the data") {
  host::log_configure("test", false, host::LogSink::none); // requests are made to fail
  for (uint32_t seed = 1; seed <= SEEDS; seed++) {
    CAPTURE(seed);
    Simulation(seed).run();
  }
}
