// A filter in front of a disk in memory, with what it keeps of that disk, for several clients.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "filters/registry.hpp"
#include "memory_backend.hpp"
#include "pooled_resources.hpp"
#include "test_client.hpp"

struct FilterFront : PooledResources {
  MemoryDisk disk;
  TestClient client;
  std::string error;
  std::unique_ptr<asyncnbd::backend::Filter> filter;
  std::unique_ptr<asyncnbd::backend::DiskState> state;
  std::deque<std::unique_ptr<asyncnbd::backend::Backend>> clients;

  FilterFront(const char *name, const asyncnbd::filters::FilterOptions &options,
              uint64_t size_bytes)
      : disk(size_bytes) {
    filter = asyncnbd::filters::make_filter(name, options, resources, &error);
  }

  // nullptr, with words in `error`: refused.
  asyncnbd::backend::Backend *try_connect(std::unique_ptr<asyncnbd::backend::Backend> below) {
    prepare(*below);
    if (!state)
      state = filter->new_disk(below->facts(), &error);
    auto opened = filter->open(&below, client.opening(), state.get(), &error);
    if (!opened || !opened->prepare(asyncnbd::backend::WANTS_ALL, &error))
      return nullptr;
    clients.push_back(std::move(opened));
    return clients.back().get();
  }
  asyncnbd::backend::Backend &connect(std::unique_ptr<asyncnbd::backend::Backend> below) {
    REQUIRE_MESSAGE(filter, error);
    asyncnbd::backend::Backend *connected = try_connect(std::move(below));
    REQUIRE_MESSAGE(connected, error);
    return *connected;
  }
  asyncnbd::backend::Backend &connect() { return connect(std::make_unique<MemoryBackend>(disk)); }
};

// The error of a request with these flags.
inline int run(asyncnbd::backend::Backend &client, uint16_t type, uint64_t offset, uint64_t bytes,
               uint16_t flags = 0, uint8_t fill = 0) {
  TestRequest request(type, offset, bytes, fill);
  request.flags = flags;
  return request.run(client);
}

inline std::vector<asyncnbd::backend::Extent> extents_of(asyncnbd::backend::Backend &client,
                                                         uint64_t offset, uint64_t bytes,
                                                         uint16_t flags = 0) {
  TestRequest request(asyncnbd::wire::NBD_CMD_BLOCK_STATUS, offset, bytes);
  request.flags = flags;
  CHECK(request.run(client) == 0);
  CHECK(request.flags == flags);
  return request.extras->statuses[0].extents;
}
