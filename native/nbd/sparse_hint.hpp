// Whether it pays to look for holes before a large read: on a disk full of data that is soon rare.
#pragma once

#include <atomic>
#include <cstdint>

namespace asyncnbd::nbd {

// One per connection. What it believes may be wrong or out of date, which costs time or bandwidth
// and nothing else: a hole that is not looked for is sent as the zeroes that it reads as.
class SparseHint {
public:
  // Before a read; by whoever leads the connection.
  bool is_worth_asking(uint64_t offset, uint64_t length_bytes);

  // Any thread.
  void found_hole() { since_hole_.store(0, std::memory_order_relaxed); }
  // The read there had none, and nor has what is behind it, up to `end`. A lookup may have gone
  // through all that, one page after the other.
  void found_data(uint64_t begin, uint64_t end);
  // Something may have become a hole.
  void forget_data() { found_data(0, 0); }
  // A client that looks for holes itself will not read them.
  void client_has_asked();

private:
  static constexpr uint32_t FIRST_ASKS = 4;
  static constexpr uint32_t RARELY = 64;
  static constexpr uint32_t RARELY_IN_DATA = 1024; // other clients may have made a hole

  // Estimates: they pair with nothing, nor with each other.
  std::atomic<uint32_t> since_hole_{0}; // reads
  std::atomic<uint64_t> data_begin_{0};
  std::atomic<uint64_t> data_end_{0};
};

} // namespace asyncnbd::nbd
