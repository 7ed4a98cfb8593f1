// A filter that keeps blocks, in front of a disk in memory, and what clients ask of it.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "filters/registry.hpp"
#include "memory_backend.hpp"
#include "pooled_resources.hpp"
#include "test_client.hpp"

constexpr uint64_t BLOCK = 4096;

struct BlockFilter : PooledResources {
  MemoryDisk disk;
  TestClient client;
  std::string error;
  std::unique_ptr<asyncnbd::backend::Filter> filter;
  std::unique_ptr<asyncnbd::backend::DiskState> state;
  std::deque<std::unique_ptr<asyncnbd::backend::Backend>> clients;

  // `told_bytes`: the size that the filter is told.
  BlockFilter(const std::string &name, asyncnbd::filters::FilterOptions options,
              uint64_t size_bytes, uint64_t told_bytes)
      : disk(size_bytes) {
    options["blockBytes"] = static_cast<double>(BLOCK);
    filter = asyncnbd::filters::make_filter(name, options, resources, &error);
    REQUIRE(filter);
    asyncnbd::backend::Facts below;
    below.size_bytes = told_bytes;
    state = filter->new_disk(below, &error);
    REQUIRE(state);
    for (uint64_t i = 0; i < size_bytes; i++)
      disk.bytes[i] = original(i);
  }
  asyncnbd::backend::Backend &connect(std::unique_ptr<asyncnbd::backend::Backend> below,
                                      bool is_readonly = false) {
    prepare(*below);
    clients.push_back(filter->open(&below, client.opening(is_readonly), state.get(), &error));
    prepare(*clients.back());
    return *clients.back();
  }
  asyncnbd::backend::Backend &connect() { return connect(std::make_unique<MemoryBackend>(disk)); }

  static uint8_t original(uint64_t at) { return static_cast<uint8_t>(1 + at / 512); }

private:
};

inline std::vector<uint8_t> read(asyncnbd::backend::Backend &client, uint64_t offset,
                                 uint64_t bytes) {
  TestRequest request(asyncnbd::wire::NBD_CMD_READ, offset, bytes);
  CHECK(request.run(client) == 0);
  return request.content;
}

inline int run(asyncnbd::backend::Backend &client, uint16_t type, uint64_t offset, uint64_t bytes,
               uint16_t flags = 0) {
  TestRequest request(type, offset, bytes);
  request.flags = flags;
  return request.run(client);
}

inline int write(asyncnbd::backend::Backend &client, uint64_t offset, uint64_t bytes, uint8_t fill,
                 uint16_t flags = 0) {
  TestRequest request(asyncnbd::wire::NBD_CMD_WRITE, offset, bytes, fill);
  request.flags = flags;
  return request.run(client);
}
