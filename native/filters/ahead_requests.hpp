// Requests to cache that a filter makes by itself, on behalf of no request of its client.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "backend/backend.hpp"
#include "filters/read_streams.hpp"

namespace asyncnbd::filters {

// One client's. Shared with its requests, the last of which may end after its client.
class AheadRequests final : public std::enable_shared_from_this<AheadRequests> {
public:
  // `of_all`: how many all clients have in flight.
  AheadRequests(std::shared_ptr<backend::Backend> below,
                std::shared_ptr<std::atomic<uint32_t>> of_all)
      : below_(std::move(below)), of_all_(std::move(of_all)) {}

  // For a read that will be submitted: requests what comes after it, if earlier reads have led
  // there. Does not wait; not inside a completion.
  void on_read(uint64_t offset, uint64_t length_bytes, uint64_t size_bytes);

  // From now on nothing is requested.
  void stop() { is_over_.store(true, std::memory_order_relaxed); }
  // Blocks until all requests have been answered or given up. After the last read.
  void wait_until_over();
  // The same, but gives up what is not answered: for callers that nobody else does it for.
  void end_unused();

private:
  static constexpr uint64_t MAX_BYTES = 256 << 10; // of one request
  static constexpr size_t MAX_IN_FLIGHT = 16;
  static constexpr uint32_t MAX_OF_ALL = 256;

  struct AheadRequest final : backend::Maker {
    void complete(backend::Request &completed, int error) override;
    void give_up(backend::Request &given_up, int error) override;
    void release(backend::Request &) override { drop_holder(); }
    bool client_has_gone() const override { return owner->is_over_.load(); }
    void drop_holder();
    void let_go();

    backend::Request request{};
    std::shared_ptr<AheadRequests> owner; // and what is below, while that may use it
    // Of one that is given up: both who gives it up and who may still use it hold it. A late reply
    // may come before give_up. The second of them finds this as the first has left it.
    std::atomic<uint8_t> holders{0};
    // The release of its end pairs with the acquire of the thread that uses it next.
    std::atomic<bool> is_in_use{false};
  };

  uint64_t ask(const AheadRange &range);
  AheadRequest *find_unused();
  void submit(AheadRequest &ahead, uint64_t begin, uint64_t end);
  void on_end();

  const std::shared_ptr<backend::Backend> below_;
  const std::shared_ptr<std::atomic<uint32_t>> of_all_; // pairs with nothing
  // Held while one read is looked at; reads that come meanwhile are not: they never wait here.
  std::atomic_flag is_looking_;
  ReadStreams streams_;                                               // of who looks
  std::unique_ptr<std::array<AheadRequest, MAX_IN_FLIGHT>> requests_; // likewise; from the first on
  std::atomic<bool> is_over_{false};                                  // pairs with nothing
  std::atomic<uint32_t> in_flight_{0}; // its end is released to who waits
};

} // namespace asyncnbd::filters
