// See sparse_hint.hpp.
#include "nbd/sparse_hint.hpp"

namespace asyncnbd::nbd {

bool SparseHint::is_worth_asking(uint64_t offset, uint64_t length_bytes) {
  const uint32_t since = since_hole_.fetch_add(1, std::memory_order_relaxed);
  if (offset >= data_begin_.load(std::memory_order_relaxed) &&
      offset + length_bytes <= data_end_.load(std::memory_order_relaxed))
    return since % RARELY_IN_DATA == RARELY_IN_DATA - 1;
  return since < FIRST_ASKS || since % RARELY == 0;
}

void SparseHint::found_data(uint64_t begin, uint64_t end) {
  data_begin_.store(begin, std::memory_order_relaxed);
  data_end_.store(end, std::memory_order_relaxed);
}

void SparseHint::client_has_asked() {
  uint32_t since = since_hole_.load(std::memory_order_relaxed);
  while (since < FIRST_ASKS &&
         !since_hole_.compare_exchange_weak(since, FIRST_ASKS, std::memory_order_relaxed)) {
  }
}

} // namespace asyncnbd::nbd
