// Flushes of the cache filter: nothing is lost that has not got below, whoever else flushes, fails
// or gives up.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "cached.hpp"
#include "held_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace cached;

TEST_CASE(
    "a block that cannot be written back fails each flush, and other blocks are still written") {
  Cached cached(WRITEBACK);
  Backend &client = cached.connect();
  CHECK(write(client, 2 * BLOCK, BLOCK, 7) == 0);
  CHECK(write(client, 5 * BLOCK, BLOCK, 8) == 0);
  cached.disk.error_of = [](Request &request) {
    if (request.type != wire::NBD_CMD_WRITE || request.offset != 2 * BLOCK)
      return 0;
    request.make_extras().error_text = "bad sector";
    return ENOSPC;
  };
  for (int i = 0; i < 2; i++) {
    TestRequest failing(wire::NBD_CMD_FLUSH, 0, 0);
    CHECK(failing.run(client) == ENOSPC);
    CHECK(failing.extras->error_text == "bad sector");
    CHECK(cached.disk.bytes[5 * BLOCK] == 8);
    CHECK(read(client, 2 * BLOCK, 1)[0] == 7);
  }
  CHECK(write(client, 2 * BLOCK + 9, 1, 9, wire::NBD_CMD_FLAG_FUA) == ENOSPC);
  cached.disk.error_of = nullptr;
  CHECK(flush(client) == 0);
  CHECK(cached.disk.bytes[2 * BLOCK] == 7);
  CHECK(cached.disk.bytes[2 * BLOCK + 9] == 9);
}

TEST_CASE("another client's flush writes what a client left unflushed") {
  Cached cached(WRITEBACK);
  Backend &other = cached.connect();
  {
    std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(cached.disk);
    prepare(*below);
    auto leaving =
        cached.filter->open(&below, cached.client.opening(), cached.state.get(), &cached.error);
    prepare(*leaving);
    CHECK(write(*leaving, 0, BLOCK, 9) == 0);
    leaving->close();
  }
  CHECK(cached.disk.bytes[0] == Cached::original(0));
  CHECK(flush(other) == 0);
  CHECK(cached.disk.bytes[0] == 9);
}

TEST_CASE("a read-only client's flush leaves the writes of others alone") {
  Cached cached({{"mode", std::string("writeback")}, {"maxBytes", 4.0 * BLOCK}, {"onRead", true}});
  Backend &writer = cached.connect();
  Backend &reader = cached.connect(
      std::make_unique<LesserBackend>(cached.disk, [](Facts &can) { can.can_write = false; }));
  for (uint64_t block = 0; block < 3; block++)
    CHECK(write(writer, block * BLOCK, BLOCK, 9) == 0);
  std::atomic<unsigned> writes{0};
  cached.disk.error_of = [&writes](const Request &request) {
    writes += request.type == wire::NBD_CMD_WRITE ? 1 : 0;
    return 0;
  };
  CHECK(flush(reader) == 0);
  for (uint64_t block = 0; block < 16; block++)
    CHECK(read(reader, block * BLOCK, 1)[0] == (block < 3 ? 9 : Cached::original(block * BLOCK)));
  CHECK(writes == 0);
  CHECK(flush(writer) == 0);
  CHECK(cached.disk.bytes[2 * BLOCK] == 9);
}

TEST_CASE("a flush waits for another client's write-back, and a change meanwhile is not lost") {
  Cached cached(WRITEBACK);
  HeldBackend::Held held_one;
  HeldBackend::Held held_other;
  HeldBackend answerer(cached.disk, held_one);
  Backend &one = cached.connect(std::make_unique<HeldBackend>(cached.disk, held_one));
  Backend &other = cached.connect(std::make_unique<HeldBackend>(cached.disk, held_other));
  CHECK(write(one, 0, BLOCK, 1) == 0);
  TestRequest first(wire::NBD_CMD_FLUSH, 0, 0);
  TestRequest second(wire::NBD_CMD_FLUSH, 0, 0);
  one.submit(first, Caller::may_block);
  Request *writing = held_one.take();
  CHECK(writing->type == wire::NBD_CMD_WRITE);
  CHECK(write(other, 0, 10, 2) == 0); // waits for nothing
  other.submit(second, Caller::may_block);
  CHECK(held_other.requests.empty()); // for one of the two would be written last
  answerer.answer(*writing);
  answerer.answer(*held_one.take()); // the flush below
  CHECK(first.wait() == 0);
  CHECK(cached.disk.bytes[0] == 1);
  Request *again = held_other.take();
  CHECK(again->type == wire::NBD_CMD_WRITE);
  answerer.answer(*again);
  CHECK_FALSE(second.is_done());
  answerer.answer(*held_other.take());
  CHECK(second.wait() == 0);
  CHECK(cached.disk.bytes[0] == 2);
  CHECK(cached.disk.bytes[10] == 1);
}

TEST_CASE("after a failed flush below, its blocks are written back and flushed again") {
  Cached cached(WRITEBACK);
  Calls calls;
  Backend &client = cached.connect(std::make_unique<NotedBackend>(cached.disk, calls));
  CHECK(write(client, BLOCK, 2 * BLOCK, 7) == 0);
  CHECK(write(client, 9 * BLOCK, BLOCK, 7) == 0);
  cached.disk.error_of = fail_flushes;
  for (int i = 0; i < 2; i++) {
    CHECK(flush(client) == EIO);
    CHECK(calls == Calls{"write 1+2", "write 9+1", "flush"});
    calls.clear();
  }
  cached.disk.error_of = nullptr;
  CHECK(write(client, 2 * BLOCK + 5, 1, 8) == 0);
  CHECK(flush(client) == 0);
  CHECK(calls == Calls{"write 1+1", "write 2+1", "write 9+1", "flush"});
  CHECK(cached.disk.bytes[2 * BLOCK + 5] == 8);
  calls.clear();
  CHECK(flush(client) == 0);
  CHECK(calls == Calls{"flush"});
}

TEST_CASE("one block that cannot be written back does not make others be written twice") {
  Cached cached(WRITEBACK);
  Calls calls;
  Backend &client = cached.connect(std::make_unique<NotedBackend>(cached.disk, calls));
  CHECK(write(client, BLOCK, BLOCK, 7) == 0);
  CHECK(write(client, 9 * BLOCK, BLOCK, 7) == 0);
  cached.disk.error_of = [](const Request &request) {
    return request.type == wire::NBD_CMD_WRITE && request.offset == BLOCK ? EIO : 0;
  };
  CHECK(flush(client) == EIO);
  calls.clear();
  CHECK(flush(client) == EIO);
  CHECK(calls == Calls{"write 1+1", "flush"});
}

TEST_CASE("a flush succeeds only once another flush's write-back is durable") {
  for (const bool can_multi_conn : {true, false})
    for (const int outcome : {0, EIO}) {
      CAPTURE(can_multi_conn);
      CAPTURE(outcome);
      Cached cached(WRITEBACK);
      HeldBackend::Held held_one;
      HeldBackend::Held held_other;
      HeldBackend answerer(cached.disk, held_one);
      Backend &one =
          cached.connect(std::make_unique<HeldBackend>(cached.disk, held_one, can_multi_conn));
      Backend &other =
          cached.connect(std::make_unique<HeldBackend>(cached.disk, held_other, can_multi_conn));
      CHECK(write(one, 0, BLOCK, 1) == 0);
      TestRequest first(wire::NBD_CMD_FLUSH, 0, 0);
      TestRequest second(wire::NBD_CMD_FLUSH, 0, 0);
      one.submit(first, Caller::may_block);
      answerer.answer(*held_one.take());
      Request *below = held_one.take();
      CHECK(below->type == wire::NBD_CMD_FLUSH);
      other.submit(second, Caller::may_block);
      CHECK_FALSE(second.is_done());
      CHECK(held_other.requests.empty());
      below->complete(outcome);
      CHECK(first.wait() == outcome);
      Request *next = held_other.take();
      if (outcome != 0) {
        CHECK(next->type == wire::NBD_CMD_WRITE);
        answerer.answer(*next);
        next = held_other.take();
      }
      CHECK(next->type == wire::NBD_CMD_FLUSH);
      answerer.answer(*next);
      CHECK(second.wait() == 0);
    }
}

TEST_CASE("a block written during its flush is written back by the next flush") {
  Cached cached(WRITEBACK);
  HeldBackend::Held held;
  HeldBackend answerer(cached.disk, held);
  Backend &client = cached.connect(std::make_unique<HeldBackend>(cached.disk, held));
  CHECK(write(client, 0, 2 * BLOCK, 1) == 0);
  TestRequest first(wire::NBD_CMD_FLUSH, 0, 0);
  client.submit(first, Caller::may_block);
  answerer.answer(*held.take());
  Request *below = held.take();
  CHECK(write(client, BLOCK, 10, 2) == 0);
  answerer.answer(*below);
  CHECK(first.wait() == 0);
  TestRequest second(wire::NBD_CMD_FLUSH, 0, 0);
  client.submit(second, Caller::may_block);
  Request *again = held.take();
  CHECK(again->type == wire::NBD_CMD_WRITE);
  CHECK(again->offset == BLOCK);
  CHECK(again->length_bytes == BLOCK);
  answerer.answer(*again);
  answerer.answer(*held.take());
  CHECK(second.wait() == 0);
  CHECK(cached.disk.bytes[BLOCK] == 2);
}

TEST_CASE(
    "a flush that waits for another client's flush can be given up at once, and others go on") {
  Cached cached(WRITEBACK);
  HeldBackend::Held held;
  HeldBackend answerer(cached.disk, held);
  Backend &one = cached.connect(std::make_unique<HeldBackend>(cached.disk, held));
  Backend &other = cached.connect();
  Backend &third = cached.connect();
  CHECK(write(one, 0, BLOCK, 1) == 0);
  TestRequest first(wire::NBD_CMD_FLUSH, 0, 0);
  TestRequest waiting(wire::NBD_CMD_FLUSH, 0, 0);
  TestRequest behind(wire::NBD_CMD_FLUSH, 0, 0);
  one.submit(first, Caller::may_block);
  Request *writing = held.take();
  other.submit(waiting, Caller::may_block);
  third.submit(behind, Caller::may_block);
  other.give_up_unanswered();
  CHECK(waiting.wait() == ESHUTDOWN);
  CHECK_FALSE(waiting.was_given_up);
  CHECK_FALSE(behind.is_done());
  answerer.answer(*writing);
  answerer.answer(*held.take());
  CHECK(first.wait() == 0);
  CHECK(behind.wait() == 0);
}

TEST_CASE("a write-back that is given up keeps its block locked until it ends, and is repeated") {
  Cached cached(WRITEBACK);
  HeldBackend::Held held_one;
  HeldBackend::Held held_other;
  HeldBackend answerer(cached.disk, held_other);
  Backend &one = cached.connect(std::make_unique<HeldBackend>(cached.disk, held_one));
  Backend &other = cached.connect(std::make_unique<HeldBackend>(cached.disk, held_other));
  CHECK(write(one, 0, BLOCK, 1) == 0);
  TestRequest stuck(wire::NBD_CMD_FLUSH, 0, 0);
  TestRequest waiting(wire::NBD_CMD_WRITE, 0, 1, 5);
  waiting.flags = wire::NBD_CMD_FLAG_FUA;
  TestRequest behind(wire::NBD_CMD_FLUSH, 0, 0);
  one.submit(stuck, Caller::may_block);
  one.submit(waiting, Caller::may_block);
  other.submit(behind, Caller::may_block);
  Request *child = held_one.take();
  CHECK_FALSE(child->completers.maker().client_has_gone()); // it is for all
  held_one.gate.change([&] { held_one.requests.push_back(child); });
  one.give_up_unanswered();
  CHECK(stuck.wait() == ESHUTDOWN);
  CHECK(waiting.wait() == ESHUTDOWN);
  CHECK(stuck.was_given_up);
  CHECK_FALSE(waiting.was_given_up);
  CHECK(held_other.requests.empty());
  child->completers.maker().release(*child); // the late reply
  CHECK(stuck.is_released);
  answerer.answer(*held_other.take());
  answerer.answer(*held_other.take());
  CHECK(behind.wait() == 0);
  CHECK(cached.disk.bytes[0] == 1);
}
