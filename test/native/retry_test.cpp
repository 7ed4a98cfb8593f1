// The filters retry and retry-request, by themselves, in front of a disk in memory.
#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <thread>

#include "filters/registry.hpp"
#include "held_backend.hpp"
#include "memory_backend.hpp"
#include "prepare.hpp"
#include "simulated_resources.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterOptions;
using std::chrono::milliseconds;

namespace {

// A disk that tests open, close and change.
struct Reopened : SimulatedResources {
  MemoryDisk disk{1 << 20};
  HeldBackend::Held held;
  bool is_async = false;
  TestClient client;
  std::unique_ptr<Filter> filter;
  std::unique_ptr<Backend> layer;
  std::function<void(Facts &)> change = [](Facts &) {}; // of the next that is opened
  std::function<void()> while_opening = [] {};
  std::function<void()> while_closing = [] {};
  std::function<void()> after_answer = [] {}; // inside submit
  unsigned finalized = 0;
  unsigned open_now = 0;
  unsigned reopenings = 0;
  const bool reopens;   // and so may have to wait
  unsigned refused = 0; // so many more are not opened
  bool can_finalize = true;
  bool was_readonly = false;
  bool was_given_up = false;   // opening
  unsigned told_of_client = 0; // that it has gone
  std::vector<uint8_t> lent;   // the next read is answered with these
  static inline unsigned given_back = 0;

  // Says when it is closed.
  struct Opened final : MemoryBackend {
    Opened(Reopened &of) : MemoryBackend(of.disk), all(of) {
      all.change(told_);
      told_.thread_model = all.is_async ? ThreadModel::async : ThreadModel::parallel;
      all.open_now++;
    }
    void submit(Request &request, Caller caller) override {
      if (all.reopens)
        CHECK(caller == Caller::must_not_block);
      disk_.submitted++;
      if (all.is_async) {
        all.held.gate.change([&] { all.held.requests.push_back(&request); });
        return;
      }
      const int error = perform(request);
      if (!all.lent.empty() && request.type == wire::NBD_CMD_READ)
        request.answer = {Answer::Kind::lent, all.lent.data(), [](void *) { given_back++; },
                          nullptr};
      request.complete(error);
      all.after_answer();
    }
    bool finalize() override {
      all.finalized++;
      return all.can_finalize;
    }
    void on_client_gone() override { all.told_of_client++; }
    void give_up_unanswered() override {
      std::deque<Request *> unanswered;
      all.held.gate.change([&] { unanswered.swap(all.held.requests); });
      for (Request *request : unanswered)
        request->give_up(ESHUTDOWN);
    }
    void close() override {
      all.while_closing();
      all.open_now--;
    }
    Reopened &all;
  };

  explicit Reopened(const std::string &name, const FilterOptions &options)
      : reopens(name == "retry") {
    std::string error;
    filter = filters::make_filter(name, options, resources, &error);
    REQUIRE(filter);
    given_back = 0;
  }
  void open() {
    std::string error;
    std::unique_ptr<Backend> below = std::make_unique<Opened>(*this);
    prepare(*below);
    Opening opening = client.opening();
    opening.open_again = [this](bool readonly, std::string *) { return reopen(readonly); };
    opening.give_up_opening = [this] { was_given_up = true; };
    layer = filter->open(&below, opening, nullptr, &error);
    REQUIRE(layer);
    prepare(*layer);
  }
  ~Reopened() {
    if (layer != nullptr)
      layer->close();
    CHECK(open_now == 0);
  }

  std::unique_ptr<Backend> reopen(bool readonly) {
    CHECK(open_now == 0); // the one before has been closed
    was_readonly = readonly;
    reopenings++;
    while_opening();
    if (refused > 0) {
      refused--;
      return nullptr;
    }
    auto opened = std::make_unique<Opened>(*this);
    prepare(*opened);
    return opened;
  }
  void fail_next(unsigned times, int error = EIO) {
    disk.error_of = [times, error](Request &) mutable {
      return times > 0 && times-- > 0 ? error : 0;
    };
  }
  void run_threads() {
    while (threads.run_one()) {
    }
  }
  void pass(milliseconds time) {
    clock.advance(time);
    timers.run_due();
    run_threads();
  }
};

} // namespace

TEST_CASE("retry reopens the plugin before each further try and doubles the wait") {
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}, {"retries", 2.0}, {"exponential", false}});
  disk.open();
  disk.fail_next(100, ENOSPC);
  TestRequest write(wire::NBD_CMD_WRITE, 0, 512);
  disk.layer->submit(write, Caller::may_block);
  disk.pass(milliseconds(10));
  disk.pass(milliseconds(10));
  CHECK(write.wait() == ENOSPC);
  CHECK(disk.reopenings == 2);
}

TEST_CASE("without retries, a failure is the client's at once") {
  Reopened disk("retry", {{"retries", 0.0}});
  disk.open();
  disk.fail_next(1, ENOSPC);
  TestRequest write(wire::NBD_CMD_WRITE, 0, 512);
  CHECK(write.run(*disk.layer) == ENOSPC);
  CHECK(disk.timers.size() == 0);
}

TEST_CASE("a delay that grows never exceeds what a timer can wait for") {
  Reopened disk("retry", {{"delayMs", 4294967295.0}, {"retries", 100.0}});
  disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}, {"retries", 1.0}});
  disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}, {"retries", 1.0}});
  disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.open();
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
    Reopened disk("retry", {{"delayMs", 10.0}, {"retries", 1.0}});
    disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}, {"readonly", true}});
  disk.open();
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

TEST_CASE("a request given up while it waits for another try fails with its own error") {
  using End = void (Backend::*)();
  for (const char *name : {"retry", "retry-request"})
    for (const End end :
         {&Backend::give_up_unanswered, &Backend::on_client_gone, &Backend::on_server_stopping}) {
      Reopened disk(name, {{"delayMs", 10.0}});
      disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.open();
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
    Reopened disk("retry", {{"delayMs", 10.0}, {"retries", 2.0}, {"exponential", false}});
    disk.open();
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
  Reopened disk("retry", {{"delayMs", 10.0}});
  disk.open();
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

TEST_CASE("without a thread for reopening the try fails") {
  Reopened disk("retry", {{"delayMs", 10.0}, {"retries", 1.0}});
  disk.open();
  disk.fail_next(1);
  TestRequest read(wire::NBD_CMD_READ, 0, 512);
  disk.layer->submit(read, Caller::may_block);
  disk.threads.has_any = false;
  disk.pass(milliseconds(10));
  CHECK(read.wait() == EAGAIN);
  TestRequest other(wire::NBD_CMD_READ, 0, 512);
  CHECK(other.run(*disk.layer) == 0);
}

TEST_CASE("retry-request tries again without reopening, after the same time") {
  Reopened disk("retry-request", {{"delayMs", 10.0}});
  disk.open();
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
