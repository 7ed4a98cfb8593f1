// Operations: used again while a backend is busy, and gone, with their ids, once it idles.
#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "backend/operation_pool.hpp"

using asyncnbd::backend::Operation;
using asyncnbd::backend::OperationPool;
using asyncnbd::backend::OperationSlabs;
using asyncnbd::host::calls;

namespace {

constexpr size_t KIB = 1024;

std::vector<Operation *> get(OperationPool &pool, size_t count) {
  std::vector<Operation *> operations;
  while (operations.size() < count)
    operations.push_back(pool.get());
  return operations;
}

void put(OperationPool &pool, const std::vector<Operation *> &operations) {
  for (Operation *operation : operations)
    pool.put(operation);
}

size_t visited(OperationPool &pool) {
  size_t count = 0;
  pool.for_each([&count](Operation &) { count++; });
  return count;
}

} // namespace

TEST_CASE("memory of a burst of requests is given back as they end") {
  OperationSlabs slabs;
  OperationPool pool(slabs);
  const std::vector<Operation *> burst = get(pool, 100'000);
  CHECK(std::set<Operation *>(burst.begin(), burst.end()).size() == burst.size());
  CHECK(visited(pool) == burst.size());
  CHECK(slabs.mapped_bytes() > 10'000 * KIB);
  CHECK(calls().resident_bytes() > 2'000 * KIB);
  put(pool, burst);
  CHECK(visited(pool) <= 512);
  CHECK(slabs.mapped_bytes() <= 512 * KIB);
  CHECK(calls().resident_bytes() <= 512 * KIB);
}

TEST_CASE("an idle backend keeps no operations and can start again") {
  OperationSlabs slabs;
  OperationPool pool(slabs);
  for (int round = 0; round < 3; round++) {
    const std::vector<Operation *> few = get(pool, 300);
    put(pool, few);
    CHECK(visited(pool) == 300);
    const std::vector<Operation *> again = get(pool, 300);
    CHECK(std::set<Operation *>(few.begin(), few.end()) ==
          std::set<Operation *>(again.begin(), again.end()));
    Operation *in_use = again.front();
    put(pool, {again.begin() + 1, again.end()});
    pool.trim();
    CHECK(visited(pool) == 1);
    CHECK(slabs.mapped_bytes() <= 256 * KIB);
    const int conn = 0;
    const uint64_t id = in_use->begin(&conn);
    CHECK(asyncnbd::host::AsyncCall::fail(id));
    pool.put(in_use);
  }
}

TEST_CASE("operations of a closed backend serve another") {
  OperationSlabs slabs;
  for (int round = 0; round < 3; round++) {
    OperationPool pool(slabs);
    put(pool, get(pool, 10'000));
    CHECK(slabs.mapped_bytes() <= 512 * KIB);
  }
  CHECK(slabs.mapped_bytes() <= 256 * KIB);
}
