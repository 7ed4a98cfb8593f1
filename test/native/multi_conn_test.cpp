// The filter multi-conn: several clients in front of plugins that answer when they are told to.
#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "filters/multi_conn_group.hpp"
#include "held_backend.hpp"
#include "memory_backend.hpp"
#include "simulated_front.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;
using filters::FilterOptions;
using Front = SimulatedFront;

namespace {

// Two clients of a filter in front of plugins whose flushes are for one client alone.
struct TwoClients : Front {
  HeldBackend::Held first_held;
  HeldBackend::Held second_held;
  HeldBackend *first_plugin = nullptr;
  HeldBackend *second_plugin = nullptr;
  std::unique_ptr<Backend> first;
  std::unique_ptr<Backend> second;

  explicit TwoClients(const FilterOptions &options = {}) : Front("multi-conn", options) {
    auto one = std::make_unique<HeldBackend>(disk, first_held, false);
    auto other = std::make_unique<HeldBackend>(disk, second_held, false);
    first_plugin = one.get();
    second_plugin = other.get();
    first = open_on(std::move(one));
    second = open_on(std::move(other));
    REQUIRE(first);
    REQUIRE(second);
  }

  void write_by_second() {
    TestRequest write(NBD_CMD_WRITE, 0, 512, 1);
    second->submit(write, Caller::may_block);
    second_plugin->answer(*second_held.take());
    CHECK(write.wait() == 0);
  }
  void close() {
    first->close();
    second->close();
  }
};

} // namespace

TEST_CASE("a flush of one connection is one of another that has written, and then of none") {
  TwoClients clients;
  CHECK(clients.first->facts().can_multi_conn);
  clients.write_by_second();
  TestRequest flush(NBD_CMD_FLUSH, 0, 0);
  clients.first->submit(flush, Caller::may_block);
  CHECK(clients.first_held.requests.empty()); // it has done nothing
  Request *child = clients.second_held.take();
  CHECK(child->type == NBD_CMD_FLUSH);
  clients.second_plugin->answer(*child);
  while (clients.threads.run_one())
    ;
  CHECK(flush.wait() == 0);
  TestRequest again(NBD_CMD_FLUSH, 0, 0);
  CHECK(again.run(*clients.first) == 0);
  CHECK(clients.second_held.requests.empty());
  clients.close();
}

TEST_CASE("a flush that another connection fails is a failed flush, and the next one tries again") {
  TwoClients clients;
  clients.write_by_second();
  for (const int error : {EIO, 0}) {
    clients.disk.error_of = [error](Request &) { return error; };
    TestRequest flush(NBD_CMD_FLUSH, 0, 0);
    clients.first->submit(flush, Caller::may_block);
    clients.second_plugin->answer(*clients.second_held.take());
    while (clients.threads.run_one())
      ;
    CHECK(flush.wait() == error);
  }
  clients.close();
}

TEST_CASE("a client that is given up while another's connection is flushed for it is answered") {
  TwoClients clients;
  clients.write_by_second();
  TestRequest flush(NBD_CMD_FLUSH, 0, 0);
  clients.first->submit(flush, Caller::may_block);
  Request *child = clients.second_held.take();
  clients.first->give_up_unanswered();
  CHECK(flush.wait() == ESHUTDOWN);
  clients.first->close();
  clients.first.reset();
  clients.second_plugin->answer(*child);
  while (clients.threads.run_one())
    ;
  clients.second->close();
}

TEST_CASE("a flush fails whose child is given up with the connection that it is on") {
  TwoClients clients;
  clients.write_by_second();
  TestRequest flush(NBD_CMD_FLUSH, 0, 0);
  clients.first->submit(flush, Caller::may_block);
  Request *child = clients.second_held.take();
  child->give_up(ESHUTDOWN);
  CHECK(flush.wait() == ESHUTDOWN);
  child->completers.maker().release(*child);
  clients.close();
}

TEST_CASE("with all connections in doubt each flush is one of all") {
  TwoClients clients(FilterOptions{{"trackDirty", "off"}});
  TestRequest flush(NBD_CMD_FLUSH, 0, 0);
  clients.first->submit(flush, Caller::may_block);
  clients.second_plugin->answer(*clients.second_held.take());
  while (clients.threads.run_one())
    ;
  clients.first_plugin->answer(*clients.first_held.take());
  CHECK(flush.wait() == 0);
  clients.close();
}

TEST_CASE("an emulated durable write is a flush of all after it") {
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

TEST_CASE("a flush that begins before something has been raised does not cover it") {
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

TEST_CASE("what is overtaken by a flush is raised once more") {
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
