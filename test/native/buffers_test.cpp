// Reference-counted buffers: reuse, zeroes, limits, threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "base/buffers.hpp"

using namespace asyncnbd::base;

TEST_CASE("a buffer is as large as asked for, zeroed, and exclusive until it is shared") {
  FreeMemory free_memory;
  BufferPool pool(free_memory);
  for (size_t bytes : {1, 4096, 270336, 5000000}) {
    Buffer *buffer = pool.get(bytes);
    REQUIRE(buffer != nullptr);
    CHECK(buffer->capacity_bytes >= bytes);
    std::vector<uint8_t> zeroes(bytes);
    CHECK(memcmp(buffer->data, zeroes.data(), bytes) == 0);
    CHECK(buffer->is_exclusive());
    buffer->ref();
    CHECK_FALSE(buffer->is_exclusive());
    buffer->unref();
    CHECK(buffer->is_exclusive());
    buffer->unref();
  }
}

TEST_CASE("a buffer is reused only for sizes near its own") {
  FreeMemory free_memory;
  BufferPool pool(free_memory);
  Buffer *buffer = pool.get(1 << 20);
  uint8_t *data = buffer->data;
  buffer->unref();
  Buffer *small = pool.get(4096);
  CHECK(small->data != data);
  Buffer *similar = pool.get(900000);
  CHECK(similar->data == data);
  small->unref();
  similar->unref();
}

TEST_CASE("threads may share a buffer and release it in any order") {
  FreeMemory free_memory;
  BufferPool pool(free_memory);
  for (int round = 0; round < 200; round++) {
    Buffer *buffer = pool.get(65536);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) {
      buffer->ref();
      threads.emplace_back([buffer, i] {
        memset(buffer->data + i * 1000, i, 1000);
        buffer->unref();
      });
    }
    buffer->unref();
    for (std::thread &thread : threads)
      thread.join();
  }
}

TEST_CASE("pieces share a buffer without overlap and keep it until the last is released") {
  FreeMemory free_memory;
  BufferPool pool(free_memory);
  std::vector<BufferPool::Piece> pieces;
  for (size_t i = 0; i < 5000; i++) {
    pieces.push_back(pool.carve(1 + i % 300));
    REQUIRE(pieces.back().data != nullptr);
    memset(pieces.back().data, static_cast<int>(i), 1 + i % 300);
  }
  CHECK(pieces[0].buffer == pieces[1].buffer);
  pool.trim();
  for (size_t i = 0; i < pieces.size(); i++) {
    CHECK(std::all_of(pieces[i].data, pieces[i].data + 1 + i % 300,
                      [i](uint8_t byte) { return byte == static_cast<uint8_t>(i); }));
    pieces[i].buffer->unref();
  }
  pool.trim();
  CHECK(pool.free_bytes() == 0);
  BufferPool::Piece large = pool.carve(1 << 20); // has one of its own
  CHECK(large.buffer->is_exclusive());
  large.buffer->unref();
}
