// Replies find the call they belong to and no other: late, double, made up, from many threads.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <deque>
#include <set>
#include <thread>
#include <vector>

#include "host/async_calls.hpp"

using asyncnbd::host::AsyncCall;
using asyncnbd::host::AsyncReply;
using asyncnbd::host::calls;

namespace {

struct Call final : AsyncCall {
  std::atomic<int> replies{0};
  std::atomic<int> late_replies{0};
  std::atomic<int> last_error{-1};

private:
  int on_reply(const AsyncReply &reply) override {
    last_error = reply.error;
    replies++;
    return 0;
  }
  void on_late_reply() override { late_replies++; }
};

const int conn = 0;
const int other_conn = 0;

AsyncReply failure(int error) {
  AsyncReply reply;
  reply.error = error;
  return reply;
}

} // namespace

TEST_CASE("one reply is accepted, and only under the conn and id that were given") {
  Call call;
  const uint64_t id = call.begin(&conn);
  CHECK(AsyncCall::reply(&other_conn, id, {}) == EINVAL);
  CHECK(AsyncCall::reply(nullptr, id, {}) == EINVAL);
  for (uint64_t bit = 0; bit < 64; bit++)
    CHECK(AsyncCall::reply(&conn, id ^ (UINT64_C(1) << bit), {}) == EINVAL);
  CHECK(call.replies == 0);
  CHECK(AsyncCall::reply(&conn, id, failure(ENOSPC)) == 0);
  CHECK(call.last_error == ENOSPC);
  CHECK(AsyncCall::reply(&conn, id, {}) == EINVAL);
  CHECK(call.replies == 1);
}

TEST_CASE("a reply to an earlier call of the same object is refused") {
  Call call;
  const uint64_t first = call.begin(&conn);
  REQUIRE(AsyncCall::reply(&conn, first, {}) == 0);
  const uint64_t second = call.begin(&conn);
  CHECK(second != first);
  CHECK(AsyncCall::reply(&conn, first, {}) == EINVAL);
  CHECK(AsyncCall::reply(&conn, second, {}) == 0);
}

TEST_CASE("a call that failed at once cannot be replied to, one that was replied to cannot fail") {
  Call call;
  uint64_t id = call.begin(&conn);
  CHECK(AsyncCall::fail(id));
  CHECK(AsyncCall::reply(&conn, id, {}) == EINVAL);
  id = call.begin(&conn);
  REQUIRE(AsyncCall::reply(&conn, id, {}) == 0);
  CHECK_FALSE(AsyncCall::fail(id));
  // By then the object may serve another call, which must not be hit.
  const uint64_t next = call.begin(&conn);
  CHECK_FALSE(AsyncCall::fail(id));
  CHECK(AsyncCall::reply(&conn, next, {}) == 0);
}

TEST_CASE("a call that was given up has one late reply, which is refused") {
  Call call;
  CHECK_FALSE(call.give_up());
  const uint64_t id = call.begin(&conn);
  CHECK(call.give_up());
  CHECK_FALSE(call.give_up());
  CHECK(AsyncCall::reply(&conn, id, {}) == ESHUTDOWN);
  CHECK(AsyncCall::reply(&conn, id, {}) == EINVAL);
  CHECK(call.replies == 0);
  CHECK(call.late_replies == 1);
}

TEST_CASE("lent data is given back whenever a reply is refused") {
  int given_back = 0;
  AsyncReply lent;
  lent.data = reinterpret_cast<const uint8_t *>("x");
  lent.length_bytes = 1;
  lent.release = [](void *counter) { ++*static_cast<int *>(counter); };
  lent.opaque = &given_back;
  Call call;
  CHECK(AsyncCall::reply(&conn, 12345, lent) == EINVAL);
  CHECK(given_back == 1);
  const uint64_t id = call.begin(&conn);
  REQUIRE(call.give_up());
  CHECK(AsyncCall::reply(&conn, id, lent) == ESHUTDOWN);
  CHECK(given_back == 2);
}

TEST_CASE("of replies that race, exactly one wins") {
  constexpr int ROUNDS = 5000;
  constexpr int THREADS = 4;
  Call call;
  std::atomic<uint64_t> id{0};
  std::atomic<int> accepted{0};
  std::atomic<int> given_up{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < THREADS; i++)
    threads.emplace_back([&] {
      while (!over)
        if (AsyncCall::reply(&conn, id, {}) == 0)
          accepted++;
        else
          std::this_thread::yield(); // or the thread that begins calls gets no processor
    });
  for (int round = 0; round < ROUNDS; round++) {
    id = call.begin(&conn);
    if (round % 3 == 0)
      given_up += call.give_up();
    while (call.replies + call.late_replies != round + 1)
      std::this_thread::yield();
  }
  over = true;
  for (std::thread &thread : threads)
    thread.join();
  CHECK(accepted == call.replies);
  CHECK(given_up == call.late_replies);
  CHECK(accepted + given_up == ROUNDS);
}

TEST_CASE("the memory of many finished calls is freed, and replies to them are refused") {
  constexpr size_t CALLS = 50'000;
  constexpr size_t MOST_KEPT_BYTES = 512 << 10;
  std::set<uint64_t> ids;
  for (int round = 1; round <= 3; round++) {
    std::deque<Call> burst(CALLS);
    std::vector<uint64_t> now;
    for (Call &call : burst)
      now.push_back(call.begin(&conn));
    CHECK(calls().resident_bytes() >= CALLS * sizeof(asyncnbd::host::CallRecord));
    for (uint64_t id : ids) // those of the calls that had these records before
      REQUIRE(AsyncCall::reply(&conn, id, {}) == EINVAL);
    for (uint64_t id : now)
      REQUIRE(AsyncCall::reply(&conn, id, {}) == 0);
    ids.insert(now.begin(), now.end());
    CHECK(ids.size() == round * CALLS); // none has come twice
    burst.clear();
    CHECK(calls().resident_bytes() <= MOST_KEPT_BYTES);
    for (uint64_t id : now)
      REQUIRE(AsyncCall::reply(&conn, id, {}) == EINVAL);
  }
}

TEST_CASE("a call that outlives thousands of others never shares an id with them") {
  std::deque<Call> burst(20'000);
  std::set<uint64_t> ids;
  for (Call &call : burst)
    ids.insert(call.begin(&conn));
  const uint64_t id = *std::next(ids.begin(), 12'345);
  for (uint64_t other : ids)
    if (other != id)
      REQUIRE(AsyncCall::reply(&conn, other, {}) == 0);
  {
    std::deque<Call> more(20'000);
    for (Call &call : more) {
      const uint64_t next = call.begin(&conn);
      CHECK(ids.count(next) == 0);
      REQUIRE(AsyncCall::reply(&conn, next, {}) == 0);
    }
  }
  CHECK(AsyncCall::reply(&conn, id, {}) == 0);
}

TEST_CASE("replies to finished calls race with freeing their memory, without harm") {
  std::atomic<uint64_t> stale{0};
  std::atomic<bool> over{false};
  std::atomic<int> accepted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; i++)
    threads.emplace_back([&] {
      while (!over)
        accepted += AsyncCall::reply(&conn, stale, {}) == 0 ? 1 : 0;
    });
  for (int round = 0; round < 20; round++) {
    std::deque<Call> burst(10'000);
    std::vector<uint64_t> ids;
    for (Call &call : burst)
      ids.push_back(call.begin(&conn));
    for (uint64_t id : ids)
      REQUIRE(AsyncCall::reply(&conn, id, {}) == 0);
    stale = ids[static_cast<size_t>(round) * 400];
  }
  over = true;
  for (std::thread &thread : threads)
    thread.join();
  CHECK(accepted == 0);
}
