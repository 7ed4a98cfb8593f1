// Random requests through the blocksize filter: nothing is lost where clients change parts of the
// same block at once.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>
#include <vector>

#include "blocksize_front.hpp"

using namespace blocks;

namespace {

struct ModelCase {
  uint64_t block;
  uint64_t max_data;
  uint64_t max_length;
  Below below;
  bool has_errors;
};

// Rounds of requests that are in progress at once and do not overlap, though their blocks do.
class Model {
public:
  Model(const ModelCase &given, unsigned seed)
      : given_(given), random_(seed),
        front_(options(static_cast<double>(given.block), static_cast<double>(given.max_data),
                       static_cast<double>(given.max_length))),
        size_(SIZE / given.block * given.block) {
    for (int i = 0; i < 2; i++)
      clients_.push_back(&front_.connect_to(given.below));
    front_.disk.error_of = [this](Request &request) { return look_at(request); };
    model_ = front_.disk.bytes;
  }

  void run_round() {
    std::vector<std::unique_ptr<TestRequest>> requests;
    uint64_t at = number(size_ / 2);
    for (uint64_t left = 2 + number(12); left > 0 && at < size_; left--) {
      const uint64_t longest = number(4) == 0 ? 20'000 : 700;
      const uint64_t bytes = std::min(size_ - at, 1 + number(longest));
      requests.push_back(make(at, bytes));
      at += bytes + (number(3) == 0 ? number(600) : 0);
    }
    for (const auto &request : requests)
      start(*request);
    for (const auto &request : requests)
      check(*request, request->wait());
    CHECK(front_.disk.bytes == model_);
    CHECK(front_.disk.reserved == 0);
  }

  uint64_t wrong_calls() const { return wrong_; }
  uint64_t parts() const { return parts_; }

private:
  uint64_t number(uint64_t below) { return random_() % below; }

  // Any thread.
  int look_at(const Request &request) {
    const bool has_data = request.type == NBD_CMD_READ || request.type == NBD_CMD_WRITE ||
                          request.type == NBD_CMD_CACHE;
    const uint64_t most = has_data ? given_.max_data : given_.max_length;
    if ((request.offset | request.length_bytes) % given_.block != 0 || request.length_bytes > most)
      wrong_++;
    const uint64_t count = calls_++;
    return given_.has_errors && count * 2654435761 % 97 == 0 ? EIO : 0;
  }

  std::unique_ptr<TestRequest> make(uint64_t offset, uint64_t bytes) {
    constexpr uint16_t TYPES[] = {NBD_CMD_WRITE,        NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_READ,
                                  NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM,  NBD_CMD_CACHE};
    const uint16_t type = TYPES[number(std::size(TYPES))];
    parts_ += (offset | bytes) % given_.block != 0 ? 1 : 0;
    auto request =
        std::make_unique<TestRequest>(type, offset, bytes, static_cast<uint8_t>(number(256)));
    if (type != NBD_CMD_READ && type != NBD_CMD_CACHE && number(3) == 0)
      request->flags = NBD_CMD_FLAG_FUA;
    return request;
  }

  // As a connection does: a write may be received where it lies.
  void start(TestRequest &request) {
    Backend &client = *clients_[number(clients_.size())];
    if (request.type == NBD_CMD_WRITE)
      if (uint8_t *place = client.reserve(request).data) {
        std::memcpy(place, request.content.data(), request.length_bytes);
        request.is_reserved = true;
        request.data = place;
      }
    client.submit(request, number(2) == 0 ? Caller::may_block : Caller::must_not_block);
  }

  void check(const TestRequest &request, int error) {
    CHECK((error == 0 || (error == EIO && given_.has_errors)));
    const std::vector<uint8_t> &bytes = front_.disk.bytes;
    const uint64_t end = request.offset + request.length_bytes;
    unsigned wrong = 0;
    for (uint64_t i = request.offset; i < end; i++) {
      const uint8_t wanted = byte_after(request, i);
      if (request.type == NBD_CMD_READ) {
        wrong += error == 0 && request.content[i - request.offset] != model_[i] ? 1 : 0;
        continue;
      }
      const bool is_known = bytes[i] == wanted || (error != 0 && bytes[i] == model_[i]);
      wrong += is_known ? 0 : 1;
      model_[i] = bytes[i];
    }
    CHECK(wrong == 0);
  }

  uint8_t byte_after(const TestRequest &request, uint64_t at) const {
    const uint64_t block = at / given_.block * given_.block;
    const bool is_trimmed =
        block >= request.offset && block + given_.block <= request.offset + request.length_bytes;
    switch (request.type) {
    case NBD_CMD_WRITE:
      return request.content[at - request.offset];
    case NBD_CMD_WRITE_ZEROES:
      return 0;
    case NBD_CMD_TRIM:
      return is_trimmed ? 0 : model_[at];
    default:
      return model_[at];
    }
  }

  const ModelCase given_;
  std::mt19937 random_;
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> wrong_{0};
  uint64_t parts_ = 0;
  Blocksize front_;
  const uint64_t size_;
  std::vector<Backend *> clients_;
  std::vector<uint8_t> model_;
};

} // namespace

TEST_CASE("random requests change exactly their ranges, even with others in progress") {
  const Below now{};
  const Below later{.answers_on_threads = true};
  const Below flushes{.answers_on_threads = true, .fua = Support::emulate};
  const Below spares{.answers_on_threads = true, .spares_copy = true};
  for (const ModelCase &given : {
           ModelCase{1, 1000, 3000, later, false},
           ModelCase{512, 4096, 8192, now, false},
           ModelCase{512, 4096, 8192, later, false},
           ModelCase{512, 4096, 8192, flushes, true},
           ModelCase{4096, 8192, 4096, later, true},
           ModelCase{4096, 65536, 65536, later, false},
           ModelCase{512, 65536, 65536, spares, true},
       }) {
    Model model(given, static_cast<unsigned>(given.block + given.max_data));
    for (int round = 0; round < 200; round++)
      model.run_round();
    CHECK(model.wrong_calls() == 0);
    CHECK((given.block == 1 || model.parts() > 100));
  }
}
