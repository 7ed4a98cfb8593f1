// The blocksize filter's state of a disk for all its clients: which ranges are being changed, so
// that no change is lost while a block is read, partly changed and written back.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "backend/filter.hpp"
#include "filters/block_operation.hpp"
#include "store/block_work.hpp"

namespace asyncnbd::filters {

// Changes claim the bytes of their blocks. Until a client changes a part of a block, nothing can be
// lost: changes of whole blocks are only counted, all under one claim. From then on each has a
// claim of its own. A change is counted or claimed only after all its data has arrived. Any thread.
class BlocksizeDisk final : public backend::DiskState {
public:
  explicit BlocksizeDisk(base::Threads &threads)
      : work(std::make_shared<store::BlockWork>(threads)) {
    counted_.first = 0;
    counted_.last = UINT64_MAX;
    work->try_claim(counted_);
  }

  // False: each change needs a claim of its own.
  bool begin_counted() {
    uint64_t state = state_.load(std::memory_order_relaxed);
    do {
      if ((state & HAS_CLAIMS) != 0)
        return false;
    } while (!state_.compare_exchange_weak(state, state + 1, std::memory_order_relaxed));
    return true;
  }
  // The release is for the claim after the last counted change: it pairs with the lock of the
  // claims.
  void end_counted() {
    if (state_.fetch_sub(1, std::memory_order_acq_rel) == (HAS_CLAIMS | 1))
      work->release(counted_);
  }
  // Called before a part of a block is claimed: the claim is granted when the counted changes are
  // over.
  void stop_counting() {
    if ((state_.load(std::memory_order_relaxed) & HAS_CLAIMS) == 0 &&
        state_.fetch_or(HAS_CLAIMS, std::memory_order_acq_rel) == 0)
      work->release(counted_);
  }

  const std::shared_ptr<store::BlockWork> work;

private:
  static constexpr uint64_t HAS_CLAIMS = uint64_t{1} << 63;

  store::RangeClaims::Claim counted_{};
  std::atomic<uint64_t> state_{0}; // the number of counted changes; HAS_CLAIMS: no more are counted
};

// Limits of requests to the plugin, in bytes.
struct BlocksizeLimits {
  uint64_t block = 1;  // a power of two: ranges begin and end at multiples of it
  uint64_t data = 0;   // the most for a read, write or cache request
  uint64_t length = 0; // the most for others

  uint64_t round_down(uint64_t value) const { return value & ~(block - 1); }
  uint64_t round_up(uint64_t value) const { return round_down(value + block - 1); }
  bool are_whole_blocks(uint64_t offset, uint64_t length_bytes) const {
    return ((offset | length_bytes) & (block - 1)) == 0;
  }
};

struct BlocksizeClient : BlockClient {
  BlocksizeDisk &disk;
  BlocksizeLimits limits; // from the first request on
};

} // namespace asyncnbd::filters
