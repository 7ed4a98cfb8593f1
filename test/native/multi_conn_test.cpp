// The filter multi-conn: several clients in front of plugins that answer when they are told to.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "filters/multi_conn_group.hpp"
#include "held_backend.hpp"
#include "held_client.hpp"
#include "memory_backend.hpp"
#include "simulated_front.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;
using filters::FilterOptions;
using Front = SimulatedFront;

namespace {

struct TwoClients : Front {
  HeldClient first;
  HeldClient second;

  explicit TwoClients(const FilterOptions &options = {}) : Front("multi-conn", options) {
    first.connect(*this);
    second.connect(*this);
  }
  void close() {
    first.front->close();
    second.front->close();
  }
};

} // namespace

TEST_CASE("a flush of one connection flushes another that has written, once") {
  TwoClients clients;
  CHECK(clients.first.front->facts().can_multi_conn);
  clients.second.write();
  TestRequest flush(NBD_CMD_FLUSH, 0, 0);
  clients.first.front->submit(flush, Caller::may_block);
  CHECK(clients.first.held.requests.empty()); // it has done nothing
  Request *child = clients.second.held.take();
  CHECK(child->type == NBD_CMD_FLUSH);
  clients.second.plugin->answer(*child);
  while (clients.threads.run_one())
    ;
  CHECK(flush.wait() == 0);
  TestRequest again(NBD_CMD_FLUSH, 0, 0);
  CHECK(again.run(*clients.first.front) == 0);
  CHECK(clients.second.held.requests.empty());
  clients.close();
}

TEST_CASE("a flush that fails on another connection fails, and the next one tries again") {
  TwoClients clients;
  clients.second.write();
  for (const int error : {EIO, 0}) {
    clients.disk.error_of = [error](Request &) { return error; };
    TestRequest flush(NBD_CMD_FLUSH, 0, 0);
    clients.first.front->submit(flush, Caller::may_block);
    clients.second.answer();
    while (clients.threads.run_one())
      ;
    CHECK(flush.wait() == error);
  }
  clients.close();
}

TEST_CASE("a flush given up while another connection is flushed for it is answered") {
  TwoClients clients;
  clients.second.write();
  TestRequest flush(NBD_CMD_FLUSH, 0, 0);
  clients.first.front->submit(flush, Caller::may_block);
  Request *child = clients.second.held.take();
  clients.first.front->give_up_unanswered();
  CHECK(flush.wait() == ESHUTDOWN);
  clients.first.front->close();
  clients.first.front.reset();
  clients.second.plugin->answer(*child);
  while (clients.threads.run_one())
    ;
  clients.second.front->close();
}

TEST_CASE("a flush fails if the connection that is flushed for it gives up") {
  TwoClients clients;
  clients.second.write();
  TestRequest flush(NBD_CMD_FLUSH, 0, 0);
  clients.first.front->submit(flush, Caller::may_block);
  Request *child = clients.second.held.take();
  child->give_up(ESHUTDOWN);
  CHECK(flush.wait() == ESHUTDOWN);
  child->completers.maker().release(*child);
  clients.close();
}

TEST_CASE("if all connections may be dirty, each flush flushes all") {
  TwoClients clients(FilterOptions{{"trackDirty", "off"}});
  TestRequest flush(NBD_CMD_FLUSH, 0, 0);
  clients.first.front->submit(flush, Caller::may_block);
  clients.second.answer();
  while (clients.threads.run_one())
    ;
  clients.first.answer();
  CHECK(flush.wait() == 0);
  clients.close();
}

TEST_CASE("an emulated FUA write is followed by a flush of all") {
  Front front("multi-conn", {{"mode", "emulate"}});
  std::vector<uint16_t> calls;
  front.disk.error_of = [&](Request &request) {
    CHECK((request.flags & NBD_CMD_FLAG_FUA) == 0);
    calls.push_back(request.type);
    return 0;
  };
  auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
  CHECK(layer->facts().fua == Support::emulate);
  TestRequest durable(NBD_CMD_WRITE, 0, 512, 1);
  durable.flags = NBD_CMD_FLAG_FUA;
  CHECK(durable.run(*layer) == 0);
  CHECK(calls == std::vector<uint16_t>{NBD_CMD_WRITE, NBD_CMD_FLUSH});
  layer->close();
}

TEST_CASE("a clean disk that the plugin keeps consistent itself is not flushed") {
  Front front("multi-conn");
  auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
  CHECK(flush(*layer) == 0);
  CHECK(front.disk.submitted == 0);
  CHECK(write(*layer, 0, 512, 1) == 0);
  CHECK(flush(*layer) == 0);
  CHECK(front.disk.submitted == 2);
  CHECK(flush(*layer) == 0);
  CHECK(front.disk.submitted == 2);
  layer->close();
}

// ---- the order of what happens ------------------------------------------------------------------

TEST_CASE("a flush does not cover a write that is answered after it began") {
  filters::Members members;
  filters::LastTime written;
  filters::LastTime flushed;
  members.tick([&](uint64_t time) {
    CHECK_FALSE(written.is_after(flushed)); // so that flush is not needed
    flushed.raise(members.now());
    written.raise(time);
  });
  CHECK(written.is_after(flushed));
  flushed.raise(members.now());
  CHECK_FALSE(written.is_after(flushed));
}

TEST_CASE("a write that a flush overtakes stays dirty") {
  filters::Members members;
  filters::LastTime written;
  filters::LastTime flushed;
  unsigned raised = 0;
  members.tick([&](uint64_t time) {
    written.raise(time);
    if (raised++ > 0)
      return;
    members.tick([](uint64_t) {}); // another's
    flushed.raise(members.now());
    CHECK_FALSE(written.is_after(flushed));
  });
  CHECK(raised == 2);
  CHECK(written.is_after(flushed));
}

// ---- all at once --------------------------------------------------------------------------------

namespace {

constexpr size_t WRITERS = 6;
using Versions = std::array<std::atomic<uint64_t>, WRITERS>; // of what each has written

// A connection of a plugin with a cache of its own, which a flush of it alone writes out.
class CachingBackend final : public MemoryBackend {
public:
  CachingBackend(MemoryDisk &disk, Versions &durable) : MemoryBackend(disk), durable_(durable) {
    told_.can_multi_conn = false;
  }

  Reservation reserve(Request &) override { return {}; }
  void submit(Request &request, Caller) override {
    uint64_t version;
    if (request.type == NBD_CMD_WRITE) {
      memcpy(&version, request.data, sizeof version);
      cached_[request.offset].store(version);
    }
    for (size_t i = 0; request.type == NBD_CMD_FLUSH && i < WRITERS; i++)
      raise(durable_[i], cached_[i].load());
    request.complete(0);
  }

private:
  static void raise(std::atomic<uint64_t> &version, uint64_t to) {
    uint64_t known = version.load();
    while (known < to && !version.compare_exchange_weak(known, to))
      ;
  }

  Versions &durable_;
  Versions cached_{};
};

// Writes and flushes: how often something was not durable then that had been answered before.
unsigned write_and_flush(Backend &client, size_t writer, Versions &answered, Versions &durable) {
  unsigned lost = 0;
  for (uint64_t version = 1; version <= 2000; version++) {
    TestRequest write(NBD_CMD_WRITE, writer, sizeof version);
    memcpy(write.data, &version, sizeof version);
    CHECK(write.run(client) == 0);
    answered[writer] = version;
    std::array<uint64_t, WRITERS> before{};
    for (size_t i = 0; i < WRITERS; i++)
      before[i] = answered[i];
    CHECK(flush(client) == 0);
    for (size_t i = 0; i < WRITERS; i++)
      lost += before[i] > durable[i] ? 1 : 0;
  }
  return lost;
}

} // namespace

TEST_CASE("a write answered before a flush began is flushed, whatever others do") {
  for (const char *track : {"connection", "fast"}) {
    Front front("multi-conn", {{"trackDirty", track}});
    Versions answered{};
    Versions durable{};
    std::vector<std::unique_ptr<Backend>> clients;
    for (size_t i = 0; i < WRITERS / 2; i++)
      clients.push_back(front.open_on(std::make_unique<CachingBackend>(front.disk, durable)));
    std::atomic<unsigned> lost{0};
    std::vector<std::thread> writers;
    for (size_t i = 0; i < WRITERS; i++) // two for each client, which flushes while it writes
      writers.emplace_back(
          [&, i] { lost += write_and_flush(*clients[i % clients.size()], i, answered, durable); });
    for (std::thread &writer : writers)
      writer.join();
    CHECK(lost == 0);
    for (auto &client : clients)
      client->close();
  }
}
