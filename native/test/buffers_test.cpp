// Tests connection/buffers.hpp: references, reuse, clean memory and threads.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <memory>

#include "connection/buffers.hpp"
#include "test/support.hpp"

using namespace asyncnbd::test;
using asyncnbd::connection::Buffer;
using asyncnbd::connection::BufferPool;

namespace {

constexpr size_t KIB = 1 << 10;
constexpr size_t MIB = 1 << 20;

struct Unref {
  void operator()(Buffer *buffer) const { buffer->unref(); }
};
using Owned = std::unique_ptr<Buffer, Unref>;

Owned get(BufferPool &pool, size_t bytes) {
  return Owned(pool.get(bytes));
}

bool is_zero(const Buffer &buffer) {
  return std::all_of(buffer.data, buffer.data + buffer.capacity_bytes,
                     [](uint8_t byte) { return byte == 0; });
}

} // namespace

TEST_CASE("a buffer has all the room asked for, aligned and zeroed") {
  BufferPool pool;
  std::vector<Owned> buffers;
  for (size_t bytes : {size_t{1}, size_t{16}, 4 * KIB - 1, 4 * KIB, 4 * KIB + 1, 260 * KIB, MIB,
                       4 * MIB + 1, 64 * MIB + 16}) {
    CAPTURE(bytes);
    buffers.push_back(get(pool, bytes));
    const Owned &buffer = buffers.back();
    REQUIRE(buffer != nullptr);
    CHECK(buffer->capacity_bytes >= bytes);
    CHECK(reinterpret_cast<uintptr_t>(buffer->data) % alignof(std::max_align_t) == 0);
    CHECK(is_zero(*buffer));
    buffer->data[0] = buffer->data[bytes - 1] = 1;
  }
}

TEST_CASE("no buffer comes where there is no memory for it") {
  BufferPool pool;
  CHECK(pool.get(SIZE_MAX / 2) == nullptr);
  CHECK(pool.get(SIZE_MAX) == nullptr);
  CHECK(get(pool, 1) != nullptr);
}

TEST_CASE("a buffer is reused once its last reference is dropped, not before") {
  BufferPool pool;
  Buffer *first = pool.get(8 * KIB);
  uint8_t *memory = first->data;
  first->ref();
  first->unref();
  Owned second = get(pool, 8 * KIB);
  CHECK(second->data != memory);
  first->unref();
  Owned third = get(pool, 8 * KIB);
  CHECK(third->data == memory);
  CHECK(third->is_exclusive());
}

TEST_CASE("a buffer is exclusive while there is one reference") {
  BufferPool pool;
  Owned buffer = get(pool, 1);
  CHECK(buffer->is_exclusive());
  buffer->ref();
  buffer->ref();
  CHECK_FALSE(buffer->is_exclusive());
  buffer->unref();
  CHECK_FALSE(buffer->is_exclusive());
  buffer->unref();
  CHECK(buffer->is_exclusive());
}

TEST_CASE("a free buffer serves smaller requests unless most of it would be wasted") {
  BufferPool pool;
  uint8_t *memory = get(pool, 64 * KIB)->data;
  CHECK(get(pool, 64 * KIB)->data == memory);
  CHECK(get(pool, 16 * KIB)->data == memory);
  CHECK(get(pool, 16 * KIB)->capacity_bytes == 64 * KIB);
  CHECK(get(pool, 16 * KIB - 1)->data != memory);
  CHECK(get(pool, 64 * KIB + 1)->data != memory);
}

TEST_CASE("the free buffer that fits is found among others") {
  BufferPool pool;
  std::vector<Owned> buffers;
  for (size_t bytes : {4 * KIB, 64 * KIB, MIB})
    buffers.push_back(get(pool, bytes));
  uint8_t *memory = buffers[1]->data;
  buffers.clear();
  CHECK(get(pool, 60 * KIB)->data == memory);
}

TEST_CASE("giants go back to the system") {
  BufferPool pool;
  for (int round = 0; round < 2; round++) { // were it kept, the second round would see the ones
    Owned buffer = get(pool, 4 * MIB + 1);
    CHECK(is_zero(*buffer));
    memset(buffer->data, 1, buffer->capacity_bytes);
  }
}

TEST_CASE("a pool keeps no more than its limit") {
  BufferPool pool;
  std::vector<Owned> buffers;
  for (int i = 0; i < 4; i++) {
    buffers.push_back(get(pool, 4 * MIB));
    buffers.back()->data[0] = 1;
  }
  buffers.clear();
  int used_before = 0;
  for (int i = 0; i < 4; i++) {
    buffers.push_back(get(pool, 4 * MIB));
    used_before += buffers.back()->data[0];
  }
  CHECK(used_before == 2);
}

TEST_CASE("what one pool has used no other pool sees") {
  BufferPool first, second;
  Owned used = get(first, 64 * KIB);
  memset(used->data, 1, used->capacity_bytes);
  used.reset();
  CHECK(is_zero(*get(second, 64 * KIB)));
  CHECK_FALSE(is_zero(*get(first, 64 * KIB))); // its own memory it does reuse
}

TEST_CASE("no buffer has two owners when threads take and return them") {
  constexpr int THREADS = 4;
  constexpr int ROUNDS = 5000;
  BufferPool pool;
  std::atomic<int> clashes{0};
  std::vector<std::thread> threads;
  for (int id = 1; id <= THREADS; id++)
    threads.emplace_back([&, id] {
      for (int round = 0; round < ROUNDS; round++) {
        Owned buffer = get(pool, (1 + round % 3) * 4 * KIB);
        buffer->data[0] = static_cast<uint8_t>(id);
        if (round % 16 == 0)
          std::this_thread::yield();
        clashes += buffer->data[0] != id || !buffer->is_exclusive();
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(clashes == 0);
}

TEST_CASE("the last reference may be dropped by any thread") {
  constexpr int ROUNDS = 2000;
  BufferPool pool;
  int mixed_up = 0;
  for (int round = 0; round < ROUNDS; round++) {
    Buffer *buffer = pool.get(4 * KIB);
    buffer->ref();
    std::atomic<bool> begun{false};
    std::thread other([&] {
      begun = true;
      buffer->data[1] = static_cast<uint8_t>(round);
      buffer->unref();
    });
    buffer->data[0] = static_cast<uint8_t>(round);
    eventually([&] { return begun.load(); });
    buffer->unref();
    // Whoever gets the memory next sees what both have written, without other synchronisation.
    Owned next = get(pool, 4 * KIB);
    bool is_reused = next->data == buffer->data && next.get() == buffer;
    mixed_up += is_reused && next->data[1] != static_cast<uint8_t>(round);
    other.join();
  }
  CHECK(mixed_up == 0);
}
