// Cache requests that a filter makes by itself, not on behalf of a client's request.
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

// Belongs to one client. Shared with its requests, the last of which may outlive the client.
class AheadRequests final : public std::enable_shared_from_this<AheadRequests> {
public:
  // `of_all`: the number that all clients have in flight.
  AheadRequests(std::shared_ptr<backend::Backend> below,
                std::shared_ptr<std::atomic<uint32_t>> of_all)
      : below_(std::move(below)), of_all_(std::move(of_all)) {}

  // Call it before a read is submitted: requests the data that follows, if the read continues
  // earlier ones. Does not wait. Must not be called inside a completion.
  void on_read(uint64_t offset, uint64_t length_bytes, uint64_t size_bytes);

  // Makes no more requests from now on.
  void stop() { is_over_.store(true, std::memory_order_relaxed); }
  // Blocks until all requests have been answered or given up. After the last read.
  void wait_until_over();
  // The same, but gives up unanswered requests itself, if nobody else does.
  void end_unused();

private:
  static constexpr uint64_t MAX_BYTES = 256 << 10; // in one request
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
    std::shared_ptr<AheadRequests> owner; // kept alive, with the backend below, while this is used
    // A request that is given up is held by the thread that gives it up and by the backend that may
    // still use it. A late reply may come before give_up. The holder that drops it last sees
    // everything that the other has written.
    std::atomic<uint8_t> holders{0};
    // The release at its end pairs with the acquire of the next use.
    std::atomic<bool> is_in_use{false};
  };

  uint64_t ask(const AheadRange &range);
  AheadRequest *find_unused();
  void submit(AheadRequest &ahead, uint64_t begin, uint64_t end);
  void on_end();

  const std::shared_ptr<backend::Backend> below_;
  const std::shared_ptr<std::atomic<uint32_t>> of_all_; // pairs with nothing
  // Held while one read is examined; reads that come meanwhile are skipped, so they never wait
  // here.
  std::atomic_flag is_looking_;
  ReadStreams streams_;                                               // used with is_looking_
  std::unique_ptr<std::array<AheadRequest, MAX_IN_FLIGHT>> requests_; // made at the first read
  std::atomic<bool> is_over_{false};                                  // pairs with nothing
  std::atomic<uint32_t> in_flight_{0}; // released at an end, acquired by the waiter
};

} // namespace asyncnbd::filters
