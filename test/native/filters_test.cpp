// Each native filter by itself, in front of a disk in memory.
#include <doctest/doctest.h>

#include <cerrno>
#include <string>

#include "filters/registry.hpp"
#include "memory_backend.hpp"
#include "simulation.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterOptions;

namespace {

struct Fixture {
  SimulatedClock clock;
  SimulatedThreads threads;
  base::Timers timers{clock, threads};
  FilterResources resources{clock, timers, threads};
  MemoryDisk disk{1 << 20};
  std::string error;

  std::unique_ptr<Filter> make(const char *name, const FilterOptions &options = {}) {
    error.clear();
    return filters::make_filter(name, options, resources, &error);
  }
};

} // namespace

TEST_CASE("a filter that is not there, and an option that it has not got, are refused") {
  Fixture fixture;
  CHECK(fixture.make("frobnicate") == nullptr);
  CHECK(fixture.error.find("frobnicate") != std::string::npos);
  CHECK(fixture.make("readonly", {{"sometimes", true}}) == nullptr);
  CHECK(fixture.error.find("sometimes") != std::string::npos);
}

TEST_CASE("behind readonly nothing is written, and reads pass with their reservations") {
  Fixture fixture;
  auto filter = fixture.make("readonly");
  REQUIRE(filter);
  CHECK(filter->opens_readonly(false));
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  auto layer = filter->open(&below, false, nullptr, &fixture.error);
  REQUIRE(layer);
  CHECK_FALSE(layer->capabilities().can_write);
  CHECK_FALSE(layer->capabilities().can_trim);
  CHECK(layer->capabilities().zero == Support::none);
  CHECK(layer->capabilities().size_bytes == fixture.disk.bytes.size());

  fixture.disk.bytes[4096] = 7;
  TestRequest read(wire::NBD_CMD_READ, 4096, 512);
  CHECK(layer->reserve(read).data == &fixture.disk.bytes[4096]);
  CHECK(read.run(*layer) == 0);
  CHECK(read.content[0] == 7);
  for (uint16_t type : {wire::NBD_CMD_WRITE, wire::NBD_CMD_TRIM, wire::NBD_CMD_WRITE_ZEROES}) {
    TestRequest refused(type, 4096, 512);
    CHECK(layer->reserve(refused).data == nullptr);
    CHECK(refused.run(*layer) == EROFS);
  }
  CHECK(fixture.disk.bytes[4096] == 7);
  CHECK(fixture.disk.submitted == 1);
  layer->close();
}
