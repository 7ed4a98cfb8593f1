// The blocksize filter in front of a disk in memory that takes only whole blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "filter_front.hpp"

namespace blocks {

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;

constexpr uint64_t BLOCK = 512;
constexpr uint64_t SIZE = (64 << 10) + 100; // its last part is no block

// What is below, and how it answers.
struct Below {
  bool answers_on_threads = false;
  Support fua = Support::native;
  BlockSizes sizes{};
  bool spares_copy = false; // reserves memory of its own for what is written
};

class BelowBackend final : public MemoryBackend {
public:
  BelowBackend(MemoryDisk &disk, const Below &how) : MemoryBackend(disk), how_(how) {
    told_.fua = how.fua;
    told_.block_sizes = how.sizes;
  }
  Reservation reserve(Request &request) override {
    if (!how_.spares_copy || request.type != NBD_CMD_WRITE)
      return MemoryBackend::reserve(request);
    disk_.reserved++;
    auto *memory = new uint8_t[request.length_bytes];
    request.reservation = memory;
    return {.data = memory, .takes_pages = false, .spares_copy = true};
  }
  void unreserve(Request &request) override {
    delete[] static_cast<uint8_t *>(std::exchange(request.reservation, nullptr));
    MemoryBackend::unreserve(request);
  }
  void submit(Request &request, Caller) override {
    if (how_.answers_on_threads)
      FilterFront::pool().run([this, &request] { request.complete(carry_out(request)); });
    else
      request.complete(carry_out(request));
  }

private:
  int carry_out(Request &request) {
    const bool is_spared = request.type == NBD_CMD_WRITE && request.reservation != nullptr;
    if (!is_spared)
      return perform(request);
    request.is_reserved = false; // its data are not on the disk yet
    const int error = perform(request);
    request.is_reserved = true;
    unreserve(request);
    return error;
  }

  const Below how_;
};

struct AskedBelow {
  uint16_t type;
  uint16_t flags;
  uint64_t offset;
  uint64_t length_bytes;
  bool operator==(const AskedBelow &) const = default;
};

struct Blocksize : FilterFront {
  std::vector<AskedBelow> calls; // of what is below

  explicit Blocksize(const filters::FilterOptions &options)
      : FilterFront("blocksize", options, SIZE) {
    for (uint64_t i = 0; i < SIZE; i++)
      disk.bytes[i] = static_cast<uint8_t>(1 + i % 251);
  }
  // From now on.
  void note_calls() {
    disk.error_of = [this](Request &request) {
      calls.push_back({request.type, request.flags, request.offset, request.length_bytes});
      return 0;
    };
  }
  Backend &connect_to(const Below &how) {
    return connect(std::make_unique<BelowBackend>(disk, how));
  }
};

inline filters::FilterOptions options(double min_block, double max_data = 0,
                                      double max_length = 0) {
  filters::FilterOptions given{{"minBlock", min_block}};
  if (max_data > 0)
    given["maxData"] = max_data;
  if (max_length > 0)
    given["maxLength"] = max_length;
  return given;
}

} // namespace blocks
