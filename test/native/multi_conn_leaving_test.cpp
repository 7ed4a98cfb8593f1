// The filter multi-conn where clients leave, or are given up, while one is flushed for another.
#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <deque>
#include <memory>
#include <thread>

#include "held_client.hpp"
#include "simulated_front.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;
using filters::FilterOptions;
using Front = SimulatedFront;

namespace {

// The first one flushes; the others have written.
struct SeveralClients : Front {
  std::deque<HeldClient> clients;
  TestRequest flush{NBD_CMD_FLUSH, 0, 0};

  explicit SeveralClients(size_t count, const FilterOptions &options = {})
      : Front("multi-conn", options), clients(count) {
    for (HeldClient &client : clients)
      client.connect(*this);
    for (size_t i = 1; i < count; i++)
      clients[i].write();
  }
  HeldClient &operator[](size_t i) { return clients[i]; }
  void begin_flush() { clients[0].front->submit(flush, Caller::may_block); }
  void run_all() {
    while (threads.run_one())
      ;
  }
};

// As a server closes: after a while, what it waits for is given up.
void close_and_give_up(Backend &client) {
  Gate gate;
  bool is_closed = false;
  std::thread closing([&] {
    client.close();
    gate.change([&] { is_closed = true; });
  });
  CHECK_FALSE(gate.wait([&] { return is_closed; }, std::chrono::milliseconds(20)));
  client.give_up_unanswered();
  REQUIRE(gate.wait([&] { return is_closed; }));
  closing.join();
}

// Nobody uses it any more: what it has kept goes.
void release(Request *given_up) {
  given_up->completers.maker().release(*given_up);
}

} // namespace

TEST_CASE("a flush that is never answered does not keep a connection from closing") {
  SeveralClients clients(2);
  clients.begin_flush();
  Request *child = clients[1].unanswered();
  clients[0].front->give_up_unanswered();
  CHECK(clients.flush.wait() == ESHUTDOWN);
  clients[0].front->close();
  clients[0].front.reset();
  close_and_give_up(*clients[1].front);
  clients[1].front.reset();
  clients.run_all();
  release(child);
}

TEST_CASE("the connection that is flushed can give up a flush that is never answered, too") {
  SeveralClients clients(2);
  clients.begin_flush();
  Request *child = clients[1].unanswered();
  close_and_give_up(*clients[1].front);
  clients[1].front.reset();
  clients.run_all();
  CHECK(clients.flush.wait() == ESHUTDOWN);
  release(child);
  clients[0].front->close();
}

TEST_CASE("a third connection that would be flushed next closes without a flush") {
  SeveralClients clients(3);
  clients.begin_flush();
  Request *child = clients[1].unanswered();
  SUBCASE("at once, if nobody waits for the flush any more") {
    clients[0].front->give_up_unanswered();
    CHECK(clients.flush.wait() == ESHUTDOWN);
    clients[2].front->close();
    clients[2].front.reset();
    close_and_give_up(*clients[1].front);
    release(child);
  }
  SUBCASE("when it is given up, and the flush fails") {
    close_and_give_up(*clients[2].front);
    clients[2].front.reset();
    CHECK_FALSE(clients.flush.is_done());
    clients[1].answer();
    clients.run_all();
    CHECK(clients.flush.wait() == ESHUTDOWN);
    clients[1].front->close();
  }
  clients.run_all();
  clients[0].front->close();
}

TEST_CASE("a connection that has been flushed closes while others are being flushed") {
  SeveralClients clients(3);
  clients.begin_flush();
  clients[1].answer();
  clients.run_all();
  Request *child = clients[2].unanswered();
  CHECK(child->type == NBD_CMD_FLUSH);
  clients[1].front->close();
  clients[1].front.reset();
  clients[2].answer();
  clients.run_all();
  CHECK(clients.flush.wait() == 0);
  clients[2].front->close();
  clients[0].front->close();
}

TEST_CASE("a connection that ends unused waits for no answer, and no flush fails for it") {
  SeveralClients clients(2, FilterOptions{{"trackDirty", "off"}});
  HeldClient unused;
  unused.connect(clients);
  clients.begin_flush();
  Request *child = nullptr;
  SUBCASE("while it is being flushed") {
    clients[1].answer();
    clients.run_all();
    child = unused.unanswered();
    unused.front->close_unused();
    unused.front.reset();
  }
  SUBCASE("before") {
    unused.front->close_unused();
    unused.front.reset();
    clients[1].answer();
  }
  clients.run_all();
  clients[0].answer();
  CHECK(clients.flush.wait() == 0);
  if (child != nullptr)
    release(child);
  clients[0].front->close();
  clients[1].front->close();
}

TEST_CASE("a plugin hears of a client that leaves when no flush for another is in it") {
  SeveralClients clients(3);
  clients.begin_flush();
  Request *child = clients[1].unanswered();
  clients[1].front->on_client_gone();
  clients[2].front->on_client_gone();
  CHECK(clients[1].held.clients_gone == 0);
  CHECK(clients[2].held.clients_gone == 0);
  SUBCASE("as it has been answered") {
    clients[1].answer();
    CHECK(clients[1].held.clients_gone == 1);
    clients.run_all();
    CHECK(clients[2].held.clients_gone == 0);
    clients[2].answer();
    clients.run_all();
    CHECK(clients.flush.wait() == 0);
    clients[1].front->close();
    child = nullptr;
  }
  SUBCASE("as nobody waits for it any more") {
    clients[0].front->give_up_unanswered();
    CHECK(clients[2].held.clients_gone == 1);
    CHECK(clients[1].held.clients_gone == 0);
    close_and_give_up(*clients[1].front);
  }
  SUBCASE("as it is given up") {
    close_and_give_up(*clients[1].front);
    clients.run_all();
    CHECK(clients.flush.wait() == ESHUTDOWN);
  }
  CHECK(clients[1].held.clients_gone == 1);
  CHECK(clients[2].held.clients_gone == 1);
  clients.run_all();
  if (child != nullptr)
    release(child);
  clients[2].front->close();
  clients[0].front->on_client_gone();
  CHECK(clients[0].held.clients_gone == 1);
  clients[0].front->close();
}
