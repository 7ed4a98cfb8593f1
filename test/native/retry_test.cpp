// The filters retry and retry-request: what is tried again, when, and on what.
#include <doctest/doctest.h>

#include <cerrno>
#include <deque>
#include <string>

#include "reopened.hpp"

using namespace reopened;

TEST_CASE("retry reopens the plugin before each further try and doubles the wait") {
  Retrying disk;
  disk.fail_next(2);
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  CHECK(disk.layer->reserve(read).data == nullptr);
  disk.layer->submit(read, Caller::may_block);
  disk.pass(milliseconds(9));
  CHECK(disk.reopenings == 0);
  disk.pass(milliseconds(1));
  CHECK(disk.reopenings == 1);
  CHECK_FALSE(read.is_done());
  disk.pass(milliseconds(19));
  CHECK(disk.reopenings == 1);
  disk.pass(milliseconds(1));
  CHECK(disk.reopenings == 2);
  CHECK(read.wait() == 0);
  CHECK(disk.disk.submitted == 3);
}

TEST_CASE("retry gives up after so many tries, with the last error") {
  Retrying disk({{"retries", 2.0}, {"exponential", false}});
  disk.fail_next(100, ENOSPC);
  TestRequest write(wire::NBD_CMD_WRITE, 0, 512);
  disk.layer->submit(write, Caller::may_block);
  disk.pass(milliseconds(10));
  disk.pass(milliseconds(10));
  CHECK(write.wait() == ENOSPC);
  CHECK(disk.reopenings == 2);
}

TEST_CASE("without retries, a failure is the client's at once") {
  Retrying disk({{"retries", 0.0}});
  disk.fail_next(1, ENOSPC);
  TestRequest write(wire::NBD_CMD_WRITE, 0, 512);
  CHECK(write.run(*disk.layer) == ENOSPC);
  CHECK(disk.timers.size() == 0);
}

TEST_CASE("a delay that grows never exceeds what a timer can wait for") {
  Retrying disk({{"delayMs", 4294967295.0}, {"retries", 100.0}});
  disk.fail_next(60);
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  disk.layer->submit(read, Caller::may_block);
  for (unsigned i = 0; i < 60; i++) {
    CHECK_FALSE(read.is_done());
    disk.pass(milliseconds(4294967295));
  }
  CHECK(read.wait() == 0);
}

TEST_CASE("a failed reopening is a try, after which requests wait for the next") {
  Retrying disk({{"retries", 1.0}});
  disk.fail_next(1);
  disk.refused = 1;
  TestRequest first(wire::NBD_CMD_READ, 0, 512);
  disk.layer->submit(first, Caller::may_block);
  disk.pass(milliseconds(10));
  CHECK(first.wait() == ESHUTDOWN);
  CHECK(disk.open_now == 0);
  TestRequest second(wire::NBD_CMD_READ, 0, 512);
  disk.layer->submit(second, Caller::may_block);
  CHECK_FALSE(second.is_done());
  disk.pass(milliseconds(10));
  CHECK(second.wait() == 0);
  CHECK(disk.reopenings == 2);
}

TEST_CASE("a plugin that cannot be closed is not reopened") {
  Retrying disk({{"retries", 1.0}});
  disk.can_finalize = false;
  disk.fail_next(1);
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  disk.layer->submit(read, Caller::may_block);
  disk.pass(milliseconds(10));
  CHECK(read.wait() == ESHUTDOWN);
  CHECK(disk.reopenings == 0);
  CHECK(disk.open_now == 1);
}

TEST_CASE("requests in flight end before the plugin is closed, and later ones are held") {
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.is_async = true;
  disk.open();
  TestRequest failing(wire::NBD_CMD_READ, 0, 512);
  TestRequest slow(wire::NBD_CMD_READ, 512, 512);
  disk.layer->submit(failing, Caller::may_block);
  disk.layer->submit(slow, Caller::may_block);
  disk.held.take()->complete(EIO);
  disk.pass(milliseconds(10));
  CHECK(disk.reopenings == 0);
  TestRequest late(wire::NBD_CMD_READ, 1024, 512);
  disk.layer->submit(late, Caller::may_block);
  CHECK(disk.disk.submitted == 2);
  disk.held.take()->complete(0);
  CHECK(slow.wait() == 0);
  disk.run_threads();
  CHECK(disk.reopenings == 1);
  CHECK(disk.held.take()->offset == 0); // in the order in which they have come
  CHECK(disk.held.take()->offset == 1024);
  failing.completers.top().complete(failing, 0);
  late.completers.top().complete(late, 0);
  CHECK(failing.wait() == 0);
  CHECK(late.wait() == 0);
}

TEST_CASE("requests that fail together cause one reopening") {
  Retrying disk;
  disk.fail_next(32);
  std::deque<TestRequest> requests;
  for (unsigned i = 0; i < 32; i++)
    disk.layer->submit(requests.emplace_back(wire::NBD_CMD_READ, i * 512, 512), Caller::may_block);
  disk.pass(milliseconds(10));
  for (TestRequest &request : requests)
    CHECK(request.wait() == 0);
  CHECK(disk.reopenings == 1);
}

TEST_CASE("memory lent by the plugin is copied") {
  Retrying disk;
  disk.lent.assign(512, 9);
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  CHECK(read.run(*disk.layer) == 0);
  CHECK_FALSE(read.answer.is_elsewhere());
  CHECK(read.content[511] == 9);
  CHECK(Reopened::given_back == 1);
}

TEST_CASE("a reopened plugin is asked only for what it can do") {
  struct Lack {
    uint16_t type;
    uint16_t flags;
    int error;
    void (*change)(Facts &);
  };
  using namespace wire;
  const Lack lacks[] = {
      {NBD_CMD_READ, 0, EIO, [](Facts &can) { can.size_bytes = 512; }},
      {NBD_CMD_CACHE, 0, EIO, [](Facts &can) { can.size_bytes = 512; }},
      {NBD_CMD_WRITE, 0, ENOSPC, [](Facts &can) { can.size_bytes = 512; }},
      {NBD_CMD_WRITE, 0, EROFS, [](Facts &can) { can.can_write = false; }},
      {NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, EIO, [](Facts &can) { can.fua = Support::none; }},
      {NBD_CMD_TRIM, 0, EROFS, [](Facts &can) { can.can_trim = false; }},
      {NBD_CMD_WRITE_ZEROES, 0, EROFS, [](Facts &can) { can.zero = Support::none; }},
      {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, ENOTSUP,
       [](Facts &can) { can.can_fast_zero = false; }},
      {NBD_CMD_FLUSH, 0, EIO, [](Facts &can) { can.can_flush = false; }},
      {NBD_CMD_CACHE, 0, EIO, [](Facts &can) { can.cache = Support::none; }},
      {NBD_CMD_BLOCK_STATUS, 0, EIO, [](Facts &can) { can.can_extents = false; }},
  };
  for (const Lack &lack : lacks) {
    Retrying disk({{"retries", 1.0}});
    disk.change = lack.change;
    disk.fail_next(1);
    TestRequest lacking(lack.type, lack.type == NBD_CMD_FLUSH ? 0 : 512,
                        lack.type == NBD_CMD_FLUSH ? 0 : 512);
    lacking.flags = lack.flags;
    disk.layer->submit(lacking, Caller::may_block);
    disk.pass(milliseconds(10));
    CHECK(lacking.wait() == lack.error);
    CHECK(disk.disk.submitted == 1);
  }
}

TEST_CASE("with readonly, nothing is written once a request has failed") {
  Retrying disk({{"readonly", true}});
  disk.fail_next(2);
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  TestRequest write(wire::NBD_CMD_WRITE, 0, 512);
  disk.layer->submit(read, Caller::may_block);
  disk.layer->submit(write, Caller::may_block);
  disk.pass(milliseconds(10));
  CHECK(read.wait() == 0);
  CHECK(write.wait() == EROFS);
  CHECK(disk.was_readonly);
  CHECK(disk.reopenings == 1);
}

TEST_CASE("without a thread for reopening the try fails") {
  Retrying disk({{"retries", 1.0}});
  disk.fail_next(1);
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  disk.layer->submit(read, Caller::may_block);
  disk.threads.has_any = false;
  disk.pass(milliseconds(10));
  CHECK(read.wait() == ENOMEM);
  TestRequest other(wire::NBD_CMD_READ, 0, 512);
  CHECK(other.run(*disk.layer) == 0);
}

TEST_CASE("retry-request tries again without reopening, after the same time") {
  Retrying disk({}, "retry-request");
  disk.fail_next(2);
  TestRequest status(wire::NBD_CMD_BLOCK_STATUS, 0, 4096);
  disk.layer->submit(status, Caller::may_block);
  disk.pass(milliseconds(10));
  CHECK_FALSE(status.is_done());
  disk.pass(milliseconds(10));
  CHECK(status.wait() == 0);
  CHECK_FALSE(status.extras->statuses.front().extents.empty());
  CHECK(disk.reopenings == 0);
  disk.fail_next(3, ENOSPC);
  TestRequest write(wire::NBD_CMD_WRITE, 0, 512);
  CHECK(disk.layer->reserve(write).data == nullptr);
  disk.layer->submit(write, Caller::may_block);
  disk.pass(milliseconds(10));
  disk.pass(milliseconds(10));
  CHECK(write.wait() == ENOSPC);
}

TEST_CASE("a failed opening is tried again, unless that is disabled") {
  struct Tried {
    const char *filter;
    FilterOptions options;
    unsigned tries;
  };
  const Tried cases[] = {
      {"retry-request", {{"delayMs", 1.0}, {"retries", 2.0}}, 3},
      {"retry-request", {{"delayMs", 1.0}, {"retries", 2.0}, {"opens", false}}, 1},
      {"retry", {{"delayMs", 1.0}, {"retries", 3.0}, {"readonly", true}}, 4},
  };
  for (const Tried &tried : cases) {
    Reopened disk(tried.filter, tried.options);
    unsigned tries = 0;
    bool was_readonly = false;
    const OpenBehind open = [&](bool readonly, std::string *error) -> std::unique_ptr<Backend> {
      was_readonly = readonly;
      tries++;
      *error = "not yet";
      return nullptr;
    };
    std::string error;
    CHECK(disk.filter->open_behind(open, disk.client.opening(), false, &error) == nullptr);
    CHECK(tries == tried.tries);
    CHECK(was_readonly == (std::string("retry") == tried.filter));
    CHECK(error == "not yet");
  }
}
