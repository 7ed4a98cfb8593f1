// Which task of the async-file plugin is next: small ones before large ones, but not for ever.
#include <doctest/doctest.h>

#include <cstdint>
#include <deque>

extern "C" {
#include "plugins/async-file-queue.h"
#include "plugins/async-file.h"
}

namespace {

constexpr uint32_t MIB = 1 << 20;

struct Queue {
  task_queue queue{};
  std::deque<task> tasks;

  explicit Queue(uint64_t max_large_bytes = UINT64_MAX) { queue.max_large_bytes = max_large_bytes; }
  task *put(uint32_t bytes, operation what = READ) {
    task &added = tasks.emplace_back();
    added.operation = what;
    added.count = bytes;
    queue_task(&queue, &added);
    return &added;
  }
  task *take(bool may_be_large = true) { return take_task(&queue, may_be_large); }
};

} // namespace

TEST_CASE("small tasks come before large ones, each kind in order") {
  Queue at;
  task *first_large = at.put(SMALL_TASK_BYTES + 1);
  task *second_large = at.put(MIB, WRITE);
  task *read = at.put(512);
  task *flush = at.put(0, SYNC);
  task *zeroes = at.put(64 * MIB, ZERO_RANGE);
  task *write = at.put(SMALL_TASK_BYTES, WRITE);
  for (task *expected : {read, flush, zeroes, write, first_large, second_large})
    CHECK(at.take() == expected);
  CHECK_FALSE(has_task_to_begin(&at.queue));
  CHECK(at.take() == nullptr);
}

TEST_CASE("a large task starts even if small ones never stop coming") {
  Queue at;
  task *large[] = {at.put(MIB), at.put(64 * MIB)};
  for (task *expected : large)
    for (unsigned ahead = 0; ahead <= SMALL_TASKS_AHEAD; ahead++) {
      at.put(512);
      const task *taken = at.take();
      CHECK((taken == expected) == (ahead == SMALL_TASKS_AHEAD));
    }
}

TEST_CASE("large tasks in progress are limited, and small tasks pass those that wait") {
  Queue at(4 * MIB);
  task *begun[] = {at.put(MIB), at.put(3 * MIB)};
  task *waiting = at.put(MIB);
  for (task *expected : begun)
    CHECK(at.take() == expected);
  CHECK_FALSE(has_task_to_begin(&at.queue));
  CHECK(at.take() == nullptr);
  for (unsigned i = 0; i < 3 * SMALL_TASKS_AHEAD; i++) {
    task *small = at.put(512);
    CHECK(has_task_to_begin(&at.queue));
    CHECK(at.take() == small);
    end_task(&at.queue, small);
  }
  end_task(&at.queue, begun[0]);
  CHECK(has_task_to_begin(&at.queue));
  CHECK(at.take() == waiting);
}

TEST_CASE("a task larger than the limit runs alone") {
  Queue at(4 * MIB);
  task *first = at.put(MIB);
  task *huge = at.put(64 * MIB);
  task *last = at.put(MIB);
  CHECK(at.take() == first);
  CHECK(at.take() == nullptr); // nor does a later one, which would put it off for ever
  end_task(&at.queue, first);
  CHECK(at.take() == huge);
  CHECK(at.take() == nullptr);
  end_task(&at.queue, huge);
  CHECK(at.take() == last);
}

TEST_CASE("a thread that must not start a large task gets only small ones") {
  Queue at;
  task *large = at.put(MIB);
  CHECK(at.take(false) == nullptr);
  task *small = at.put(512);
  CHECK(at.take(false) == small);
  CHECK(has_task_to_begin(&at.queue));
  CHECK(at.take() == large);
}
