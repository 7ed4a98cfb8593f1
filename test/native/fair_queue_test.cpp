// Whose request is next: nobody waits for all that others have asked for, and nobody for ever.
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "backend/fair_queue.hpp"

using asyncnbd::backend::FairQueue;

namespace {

constexpr uint32_t MIB = 1 << 20;
constexpr uint32_t MANY = 1000;

// Operations are numbered as they are pushed; it is remembered whose they are.
struct Queued {
  FairQueue queue;
  std::vector<uint32_t> owners;
  std::vector<uint64_t> sizes;

  uint32_t push(uint32_t connection, uint64_t bytes) {
    const auto operation = static_cast<uint32_t>(owners.size());
    owners.push_back(connection);
    sizes.push_back(bytes);
    queue.push(connection, operation, bytes);
    return operation;
  }

  // How many others come before one of this connection.
  uint32_t pops_until(uint32_t connection) {
    for (uint32_t count = 0;; count++) {
      const uint32_t operation = queue.pop();
      REQUIRE(operation != FairQueue::NONE);
      if (owners[operation] == connection)
        return count;
      push(owners[operation], sizes[operation]); // they want more
    }
  }
};

} // namespace

TEST_CASE("each connection's requests stay in order, and each is handed out once") {
  Queued queued;
  CHECK(queued.queue.pop() == FairQueue::NONE);
  for (int round = 0; round < 3; round++) {
    std::vector<uint32_t> operations;
    for (uint64_t bytes : {512u, MIB, 0u, 32 * MIB, 4096u})
      operations.push_back(queued.push(7, bytes));
    for (uint32_t operation : operations)
      CHECK(queued.queue.pop() == operation);
    CHECK(queued.queue.pop() == FairQueue::NONE);
    queued.queue.trim();
  }
}

TEST_CASE("small requests come before many large ones") {
  Queued queued;
  for (uint32_t connection = 0; connection < MANY; connection++)
    for (int i = 0; i < 4; i++)
      queued.push(connection, MIB);
  queued.push(MANY, 512);
  CHECK(queued.pops_until(MANY) == 0);
  // While it has one, the others have as much each.
  const uint64_t cost = 512 + FairQueue::OPERATION_BYTES;
  const auto share = static_cast<uint32_t>(cost * (MANY + 1) / MIB);
  for (int i = 0; i < 1000; i++) {
    queued.push(MANY, 512);
    CHECK(queued.pops_until(MANY) <= 2 * (share + 1));
  }
}

TEST_CASE("a connection that asks rarely is served at once, whatever it had before") {
  Queued queued;
  for (int i = 0; i < 100; i++) {
    queued.push(MANY, MIB);
    CHECK(queued.pops_until(MANY) == 0);
  }
  for (uint32_t connection = 0; connection < 10; connection++)
    queued.push(connection, MIB);
  for (int i = 0; i < 10; i++) {
    queued.pops_until(0);
    queued.push(0, MIB);
  }
  queued.push(MANY, 512);
  CHECK(queued.pops_until(MANY) == 0);
}

TEST_CASE("many small requests do not starve a large one") {
  Queued queued;
  for (uint32_t connection = 0; connection < MANY; connection++)
    queued.push(connection, 512);
  queued.push(MANY, MIB);
  const uint32_t turns = MIB / FairQueue::TURN_BYTES;
  const auto each = static_cast<uint32_t>(FairQueue::TURN_BYTES / FairQueue::OPERATION_BYTES);
  CHECK(queued.pops_until(MANY) <= MANY * (turns + 2) * each);
}

TEST_CASE("connections get equal bytes, whatever the size of their requests") {
  Queued queued;
  for (int i = 0; i < 8; i++)
    queued.push(0, MIB);
  for (int i = 0; i < 8; i++)
    queued.push(1, 128 << 10);
  uint64_t given[2] = {};
  for (int i = 0; i < 2000; i++) {
    const uint32_t operation = queued.queue.pop();
    const uint32_t connection = queued.owners[operation];
    given[connection] += queued.sizes[operation];
    queued.push(connection, queued.sizes[operation]);
  }
  CHECK(given[0] > given[1] * 9 / 10);
  CHECK(given[1] > given[0] * 9 / 10);
}
