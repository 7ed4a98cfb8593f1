// Where turns stand in a chain: filters whose calls block, behind native ones that call them for
// other clients.
#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "backend/chain.hpp"
#include "backend/layer.hpp"
#include "filters/registry.hpp"
#include "memory_backend.hpp"
#include "memory_bottom.hpp"
#include "system_resources.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;

namespace {

// What a filter of nbdkit's sees: at most one call at once.
struct Calls {
  std::atomic<unsigned> inside{0};
  std::atomic<bool> has_overlapped{false};
  std::function<void(const Request &)> in_call = [](const Request &) {};
};

class BlockingLayer final : public Layer {
public:
  BlockingLayer(std::unique_ptr<Backend> opened, Calls &of_all, bool counts_all)
      : Layer(std::move(opened)), of_all_(of_all), calls_(counts_all ? of_all : own_) {}
  void submit(Request &request, Caller caller) override {
    if (++calls_.inside > 1)
      of_all_.has_overlapped = true;
    of_all_.in_call(request);
    calls_.inside--;
    Layer::submit(request, caller);
  }

private:
  Calls own_;
  Calls &of_all_;
  Calls &calls_;
};

struct BlockingFilter final : OpeningFilter {
  BlockingFilter(Calls &calls, bool counts_all) : calls(calls), counts_all(counts_all) {}
  const char *name() const override { return "blocking"; }
  ThreadModel thread_model() const override { return ThreadModel::parallel; }
  void placed(const Level &) override {}
  std::unique_ptr<Backend> open_in_front(const Level &behind, const std::string &export_name,
                                         bool readonly, std::string *error) override {
    auto opened = behind.open(export_name, readonly, error);
    REQUIRE(opened);
    return std::make_unique<BlockingLayer>(std::move(opened), calls, counts_all);
  }
  bool preconnect(const Level &behind, bool readonly) override {
    return behind.preconnect(readonly);
  }
  std::optional<std::vector<ExportEntry>> list_exports(const Level &behind,
                                                       bool readonly) override {
    return behind.list_exports(readonly);
  }
  std::optional<std::string> default_export(const Level &behind, bool readonly) override {
    return behind.default_export(readonly);
  }
  Calls &calls;
  const bool counts_all;
};

ChainFilter native(const char *name, const filters::FilterOptions &options) {
  std::string error;
  auto filter = filters::make_filter(name, options, system_resources().of_backends, &error);
  REQUIRE_MESSAGE(filter, error);
  return {std::move(filter), nullptr};
}

} // namespace

TEST_CASE("a flush for other clients does not overlap their requests where calls are serialized") {
  for (const char *serialize : {"requests", "all-requests"}) {
    CAPTURE(serialize);
    MemoryDisk disk(1 << 20);
    Calls calls;
    std::vector<ChainFilter> filters;
    filters.push_back(native("noparallel", {{"serialize", std::string(serialize)}}));
    filters.push_back(native("multi-conn", {{"mode", std::string("emulate")}}));
    filters.push_back({nullptr, std::make_unique<BlockingFilter>(calls, serialize[0] == 'a')});
    const auto chain = std::make_shared<Chain>(std::move(filters));
    chain->get_ready(3);
    TestClient client;
    MemoryBottom bottom(disk, client);
    std::string error;
    const std::string export_name;
    auto first = chain->open(bottom, {export_name, false, nullptr, {}}, &error);
    auto second = chain->open(bottom, {export_name, false, nullptr, {}}, &error);
    REQUIRE(first);
    REQUIRE(second);
    TestRequest write(NBD_CMD_WRITE, 0, 512, 1);
    CHECK(write.run(*second) == 0);

    Gate gate;
    bool is_reading = false;
    bool may_return = false;
    calls.in_call = [&](const Request &request) {
      if (request.type != NBD_CMD_READ)
        return;
      gate.change([&] { is_reading = true; });
      CHECK(gate.wait([&] { return may_return; }));
    };
    TestRequest read(NBD_CMD_READ, 0, 512);
    std::thread reader([&] { second->submit(read, Caller::may_block); });
    REQUIRE(gate.wait([&] { return is_reading; }));
    TestRequest flush(NBD_CMD_FLUSH, 0, 0);
    std::thread flusher([&] { first->submit(flush, Caller::may_block); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); // in which it could go wrong
    gate.change([&] { may_return = true; });
    reader.join();
    flusher.join();
    CHECK(read.wait() == 0);
    CHECK(flush.wait() == 0);
    CHECK_FALSE(calls.has_overlapped.load());
    first->close();
    second->close();
    chain->end();
  }
}
