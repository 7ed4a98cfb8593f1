// A disk in memory for tests of layers, and requests to it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "prepare.hpp"
#include "support.hpp"
#include "wire/commands.hpp"

// A disk may be read where it is being written, and gives one or the other: ThreadSanitizer is not
// to watch its bytes, nor may they be moved by functions that it watches.
#if defined(__SANITIZE_THREAD__)
#define NOT_WATCHED                                                                                \
  __attribute__((no_sanitize("thread"), noinline, optimize("no-tree-loop-distribute-patterns")))
#else
#define NOT_WATCHED
#endif

NOT_WATCHED inline void move_bytes(uint8_t *to, const uint8_t *from, size_t length_bytes) {
  for (size_t i = 0; i < length_bytes; i++)
    to[i] = from[i];
}

NOT_WATCHED inline void zero_bytes(uint8_t *to, size_t length_bytes) {
  for (size_t i = 0; i < length_bytes; i++)
    to[i] = 0;
}

struct MemoryDisk {
  explicit MemoryDisk(size_t size_bytes) : bytes(size_bytes) {}

  std::vector<uint8_t> bytes;
  std::atomic<unsigned> submitted{0};
  std::atomic<unsigned> reserved{0}; // writes that are neither submitted nor unreserved yet
  // The error of a request, which is not carried out then.
  std::function<int(asyncnbd::backend::Request &)> error_of;
};

// One client's, of a disk that says of itself that it can do everything. Completes inside submit.
class MemoryBackend : public asyncnbd::backend::Backend {
public:
  using Request = asyncnbd::backend::Request;
  using Support = asyncnbd::backend::Support;

  explicit MemoryBackend(MemoryDisk &disk) : disk_(disk) {
    told_.size_bytes = disk.bytes.size();
    told_.can_write = true;
    told_.can_flush = true;
    told_.can_trim = true;
    told_.can_fast_zero = true;
    told_.can_multi_conn = true;
    told_.can_extents = true;
    told_.has_sparse_reads = true;
    told_.zero = Support::native;
    told_.fua = Support::native;
    told_.cache = Support::native;
  }

  asyncnbd::backend::Reservation reserve(Request &request) override {
    if (request.type == asyncnbd::wire::NBD_CMD_WRITE)
      disk_.reserved++;
    return {disk_.bytes.data() + request.offset};
  }
  void unreserve(Request &) override { disk_.reserved--; }
  void submit(Request &request, asyncnbd::backend::Caller) override {
    disk_.submitted++;
    request.complete(perform(request));
  }
  void give_up_unanswered() override {}
  void close() override {}

protected:
  bool collect(const asyncnbd::backend::Wanted &, asyncnbd::backend::Facts *facts,
               std::string *) override {
    *facts = told_;
    return true;
  }
  int perform(Request &request) {
    using namespace asyncnbd::wire;
    uint8_t *place = disk_.bytes.data() + request.offset;
    if (request.type == NBD_CMD_WRITE && request.is_reserved)
      disk_.reserved--;
    if (const int error = disk_.error_of ? disk_.error_of(request) : 0)
      return error;
    switch (request.type) {
    case NBD_CMD_READ:
      if (!request.is_reserved)
        move_bytes(request.data, place, request.length_bytes);
      break;
    case NBD_CMD_WRITE:
      if (!request.is_reserved)
        move_bytes(place, request.data, request.length_bytes);
      break;
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
      zero_bytes(place, request.length_bytes);
      break;
    case NBD_CMD_BLOCK_STATUS:
      for (asyncnbd::backend::ContextStatus &status : request.extras->statuses)
        report(request, status.extents);
      break;
    }
    return 0;
  }

  // Holes are 512 bytes of zeroes.
  void report(const Request &request, std::vector<asyncnbd::backend::Extent> &extents) const {
    const uint64_t end = request.offset + request.length_bytes;
    for (uint64_t at = request.offset; at < end;) {
      const uint64_t next = std::min(end, (at / 512 + 1) * 512);
      bool is_zero = true;
      for (uint64_t i = at; i < next; i++)
        is_zero = is_zero && disk_.bytes[i] == 0;
      asyncnbd::backend::append_extent(extents, next - at, is_zero ? 3 : 0);
      at = next;
    }
  }

  MemoryDisk &disk_;
  asyncnbd::backend::Facts told_;
};

// A request, with memory for its data, that can be waited for.
struct TestRequest : asyncnbd::backend::Request, asyncnbd::backend::Maker {
  TestRequest(uint16_t of_type, uint64_t at, uint64_t bytes, uint8_t fill = 0)
      : Request{}, content(has_data(of_type) ? bytes : 0, fill) {
    completers.reset(*this);
    type = of_type;
    offset = at;
    length_bytes = bytes;
    data = content.empty() ? nullptr : content.data();
    if (of_type == asyncnbd::wire::NBD_CMD_BLOCK_STATUS)
      make_extras().statuses.push_back({1, asyncnbd::backend::ContextStatus::ALLOCATION, {}});
  }

  static bool has_data(uint16_t of_type) {
    return of_type == asyncnbd::wire::NBD_CMD_READ || of_type == asyncnbd::wire::NBD_CMD_WRITE;
  }

  void complete(asyncnbd::backend::Request &, int error) override { end(error, false); }
  void give_up(asyncnbd::backend::Request &, int error) override { end(error, true); }
  void release(asyncnbd::backend::Request &) override {
    gate.change([this] { is_released = true; });
  }
  bool client_has_gone() const override { return has_gone; }

  // The answer, once it is there.
  int wait() {
    if (!gate.wait([this] { return result.has_value(); }))
      return -1;
    return *result;
  }
  int run(asyncnbd::backend::Backend &backend) {
    backend.submit(*this, asyncnbd::backend::Caller::may_block);
    return wait();
  }
  bool is_done() {
    bool done = false;
    gate.change([&] { done = result.has_value(); });
    return done;
  }

  Gate gate;
  std::vector<uint8_t> content;
  std::optional<int> result;
  unsigned ends = 0;
  bool was_given_up = false;
  bool is_released = false;
  std::atomic<bool> has_gone{false};

private:
  void end(int error, bool given_up) {
    using Kind = asyncnbd::backend::Answer::Kind;
    if (error == 0 && answer.is_elsewhere() && answer.data != content.data())
      memcpy(content.data(), answer.data, content.size());
    if (pages && error == 0)
      error = pages->take_out(content.data()) == content.size() ? 0 : EIO;
    pages.reset();
    if (answer.kind == Kind::lent && answer.give_back != nullptr)
      answer.give_back(answer.opaque);
    gate.change([&] {
      result = error;
      ends++;
      was_given_up = given_up;
    });
  }
};
