// The filters retry and retry-request where clients leave, or the server stops, while requests
// wait.
#include <doctest/doctest.h>

#include <cerrno>
#include <thread>

#include "reopened.hpp"

using namespace reopened;

TEST_CASE("a request given up while it waits for another try fails with its own error") {
  using End = void (Backend::*)();
  for (const char *name : {"retry", "retry-request"})
    for (const End end :
         {&Backend::give_up_unanswered, &Backend::on_client_gone, &Backend::on_server_stopping}) {
      Retrying disk({}, name);
      disk.fail_next(2, ENOSPC);
      TestRequest write(wire::NBD_CMD_WRITE, 0, 512);
      disk.layer->submit(write, Caller::may_block);
      CHECK_FALSE(write.is_done());
      ((*disk.layer).*end)();
      CHECK(write.wait() == ENOSPC);
      TestRequest late(wire::NBD_CMD_WRITE, 0, 512);
      CHECK(late.run(*disk.layer) == ENOSPC);
      CHECK(disk.timers.size() == 0);
      CHECK(disk.reopenings == 0);
    }
}

TEST_CASE(
    "requests that are held when nobody waits for them fail, and what is in flight is given up") {
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.is_async = true;
  disk.open();
  TestRequest failing(wire::NBD_CMD_READ, 0, 512);
  TestRequest slow(wire::NBD_CMD_READ, 512, 512);
  disk.layer->submit(failing, Caller::may_block);
  disk.layer->submit(slow, Caller::may_block);
  disk.held.take()->complete(EIO);
  disk.pass(milliseconds(10));
  TestRequest late(wire::NBD_CMD_READ, 1024, 512);
  disk.layer->submit(late, Caller::may_block);
  disk.layer->give_up_unanswered();
  CHECK(failing.wait() == EIO);
  CHECK(late.wait() == ESHUTDOWN);
  CHECK(slow.wait() == ESHUTDOWN);
  CHECK(slow.was_given_up);
  disk.run_threads();
  CHECK(disk.reopenings == 0);
  CHECK(disk.was_given_up);
}

TEST_CASE(
    "a client that leaves during reopening is answered after it, and the plugin hears of it") {
  Retrying disk;
  disk.fail_next(1);
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  disk.while_opening = [&] {
    disk.layer->on_client_gone();
    CHECK(disk.was_given_up);
    CHECK_FALSE(read.is_done()); // others would have their turns
    TestRequest late(wire::NBD_CMD_READ, 0, 512);
    CHECK(late.run(*disk.layer) == ESHUTDOWN);
  };
  disk.layer->submit(read, Caller::may_block);
  disk.pass(milliseconds(10));
  CHECK(read.wait() == EIO);
  CHECK(disk.disk.submitted == 1);
  CHECK(disk.reopenings == 1);
  CHECK(disk.told_of_client == 1);
  TestRequest last(wire::NBD_CMD_READ, 0, 512);
  CHECK(last.run(*disk.layer) == 0);
}

TEST_CASE("the server can stop during a failing reopening") {
  Retrying disk;
  disk.fail_next(1);
  disk.refused = 1;
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  disk.while_opening = [&] {
    disk.layer->on_server_stopping();
    CHECK_FALSE(read.is_done());
  };
  disk.layer->submit(read, Caller::may_block);
  disk.pass(milliseconds(10));
  CHECK(read.wait() == EIO);
  CHECK(disk.timers.size() == 0);
}

TEST_CASE("giving up while the plugin is closed waits for the close") {
  Retrying disk;
  disk.fail_next(1);
  Gate gate;
  bool is_closing = false;
  bool may_close = false;
  bool has_finalized = false;
  disk.while_closing = [&] {
    gate.change([&] { is_closing = true; });
    CHECK(gate.wait([&] { return may_close; }));
  };
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  disk.layer->submit(read, Caller::may_block);
  std::thread pool([&] { disk.pass(milliseconds(10)); });
  CHECK(gate.wait([&] { return is_closing; }));
  disk.layer->give_up_unanswered();
  CHECK_FALSE(read.is_done()); // others would be called meanwhile
  std::thread end([&] {
    CHECK(disk.layer->finalize());
    gate.change([&] { has_finalized = true; });
  });
  CHECK_FALSE(gate.wait([&] { return has_finalized; }, milliseconds(20)));
  gate.change([&] { may_close = true; });
  pool.join();
  end.join();
  CHECK(read.wait() == EIO);
  CHECK(disk.finalized == 1);
  CHECK(disk.open_now == 0);
  CHECK(disk.reopenings == 0);
}

TEST_CASE("while a filter above opens, its reads may end with the plugin closed or reopened") {
  for (const unsigned refused : {0U, 100U}) {
    Retrying disk({{"retries", 2.0}, {"exponential", false}});
    disk.fail_next(1);
    disk.refused = refused;
    TestRequest table(wire::NBD_CMD_READ, 0, 512);
    disk.layer->submit(table, Caller::may_block);
    disk.pass(milliseconds(10));
    disk.pass(milliseconds(10));
    CHECK(table.wait() == (refused > 0 ? ESHUTDOWN : 0));
    CHECK(disk.open_now == (refused > 0 ? 0 : 1));
    disk.layer->close_unused();
    CHECK(disk.open_now == 0);
    disk.layer.reset();
  }
}

TEST_CASE("a read during opening does not close the plugin inside its own answer") {
  Retrying disk;
  Gate gate;
  bool may_return = false;
  bool is_closed = false;
  disk.after_answer = [&] { CHECK(gate.wait([&] { return may_return; })); };
  TestRequest table(wire::NBD_CMD_READ, 0, 512);
  std::thread reader([&] { disk.layer->submit(table, Caller::may_block); });
  CHECK(table.wait() == 0);
  std::thread opener([&] {
    disk.layer->close_unused();
    gate.change([&] { is_closed = true; });
  });
  CHECK_FALSE(gate.wait([&] { return is_closed; }, milliseconds(20)));
  gate.change([&] { may_return = true; });
  reader.join();
  opener.join();
  CHECK(disk.open_now == 0);
  disk.layer.reset();
}
