// A filter in front of a disk in memory, under simulated time and threads.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "filters/registry.hpp"
#include "memory_backend.hpp"
#include "simulated_resources.hpp"
#include "test_client.hpp"

// What a filter opens for one client after the other.
struct SimulatedFront : SimulatedResources {
  MemoryDisk disk{1 << 20};
  TestClient client;
  std::string error;
  std::unique_ptr<asyncnbd::backend::Filter> filter;

  explicit SimulatedFront(const char *name, const asyncnbd::filters::FilterOptions &options = {}) {
    filter = asyncnbd::filters::make_filter(name, options, resources, &error);
    REQUIRE_MESSAGE(filter, error);
  }

  std::unique_ptr<asyncnbd::backend::Backend>
  open_on(std::unique_ptr<asyncnbd::backend::Backend> below) {
    REQUIRE(below->prepare(asyncnbd::backend::WANTS_ALL, &error));
    std::unique_ptr<asyncnbd::backend::Backend> opened =
        filter->open(&below, client.opening(), nullptr, &error);
    if (opened && opened->prepare(asyncnbd::backend::WANTS_ALL, &error))
      return opened;
    return nullptr;
  }
};

inline int flush(asyncnbd::backend::Backend &backend) {
  return TestRequest(asyncnbd::wire::NBD_CMD_FLUSH, 0, 0).run(backend);
}

inline int write(asyncnbd::backend::Backend &backend, uint64_t offset, uint64_t length_bytes,
                 uint8_t fill) {
  return TestRequest(asyncnbd::wire::NBD_CMD_WRITE, offset, length_bytes, fill).run(backend);
}
