// A client that is waited for, and one that is not, on a clock that the test decides.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/thread_pool.hpp"
#include "running_connection.hpp"

using namespace asyncnbd;
using namespace std::chrono_literals;

namespace {

// Read by a connection's thread while the test sets it.
struct SharedClock final : base::Clock {
  std::atomic<base::Duration> time{1h};

  base::Time now() const override { return base::Time(time.load()); }
  void advance(base::Duration by) { time.store(time.load() + by); }
};

// Connections have threads; what is to happen at a time, the test runs.
struct ThreadsWithoutTimers final : base::Threads {
  base::ThreadPool pool;

  bool run(std::function<void()> task) override { return pool.run(std::move(task)); }
  bool start(const char *, std::function<void()>) override { return true; }
};

struct Simulation {
  SharedClock clock;
  ThreadsWithoutTimers threads;
  schedule::EpollPoller poller;
  schedule::Runtime runtime{clock, threads, poller, 1};
  nbd::Resources resources{runtime};

  // Never destroyed, for its threads are not.
  static Simulation &instance() {
    static auto *made = new Simulation;
    return *made;
  }
  // Second by second, until the guard of stalled clients has something to look at.
  bool wait_until_guarded() {
    for (int i = 0; i < 1000 && runtime.timers.size() == 0; i++) {
      clock.advance(1s);
      std::this_thread::sleep_for(20ms);
    }
    return runtime.timers.size() > 0;
  }
  void pass(base::Duration time) {
    clock.advance(time);
    runtime.timers.run_due();
  }
};

struct Waiter final : base::MemoryBudget::Waiter {
  void on_room() override {}
};

} // namespace

TEST_CASE("time spent waiting for memory does not count as a client's silence") {
  Simulation &at = Simulation::instance();
  Running running(at.resources);
  running.stall_timeout = 1h;
  running.budget = std::make_shared<base::MemoryBudget>(1);
  Waiter holder;
  REQUIRE(running.budget->take(2, holder, 0) == base::MemoryBudget::Source::reserve);
  running.world.submit = [](backend::Request &request) { request.complete(0); };
  REQUIRE(running.start(ThreadModel::serialize_requests));

  const std::vector<uint8_t> payload(SIZE, 5);
  constexpr size_t BEGIN_BYTES = 100 << 10;
  constexpr size_t LINE_BYTES = nbd::MemoryAccount::FIRST_BYTES; // for more, it needs memory
  const int client = running.sockets.client;
  REQUIRE(send_all(client, encode_request(wire::NBD_CMD_WRITE, 1, 0, SIZE)));
  REQUIRE(send_all(client, payload.data(), BEGIN_BYTES));
  REQUIRE(at.wait_until_guarded());
  REQUIRE(send_all(client, payload.data() + BEGIN_BYTES, LINE_BYTES - BEGIN_BYTES));
  while (!running.budget->is_short())
    std::this_thread::sleep_for(1ms);
  at.pass(2h);
  running.budget->give_back_reserve();
  REQUIRE(at.wait_until_guarded());
  at.pass(1s);
  REQUIRE(send_all(client, payload.data() + LINE_BYTES, SIZE - LINE_BYTES));
  Reply reply;
  REQUIRE(read_reply(client, &reply));
  CHECK(reply.error == 0);
  running.sockets.close_client();
  CHECK(running.wait_until_over());
}
