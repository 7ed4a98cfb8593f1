// A native filter in front of a disk in memory, on a clock and threads that the test drives.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <string>

#include "filters/registry.hpp"
#include "memory_backend.hpp"
#include "prepare.hpp"
#include "simulated_resources.hpp"
#include "test_client.hpp"

namespace asyncnbd::filters {

struct FilterFixture : SimulatedResources {
  MemoryDisk disk{1 << 20};
  TestClient client;
  std::string error;

  std::unique_ptr<backend::Filter> make(const char *name, const FilterOptions &options = {}) {
    error.clear();
    return make_filter(name, options, resources, &error);
  }
  std::unique_ptr<backend::Backend> open(backend::Filter &filter) {
    std::unique_ptr<backend::Backend> below = std::make_unique<MemoryBackend>(disk);
    prepare(*below);
    std::unique_ptr<backend::Backend> layer =
        filter.open(&below, client.opening(), nullptr, &error);
    REQUIRE(layer);
    prepare(*layer);
    return layer;
  }
};

// A filter that is made, and what one client has opened.
struct OpenedFilter : FilterFixture {
  std::unique_ptr<backend::Filter> filter;
  std::unique_ptr<backend::Backend> layer;

  OpenedFilter(const char *name, const FilterOptions &options) {
    filter = make(name, options);
    REQUIRE(filter);
    layer = open(*filter);
  }
  void pass(std::chrono::milliseconds time) {
    clock.advance(time);
    timers.run_due();
  }
};

} // namespace asyncnbd::filters
