// Detects which of a client's reads follow each other, and what to read ahead of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace asyncnbd::filters {

// In bytes.
struct AheadRange {
  uint64_t begin = 0;
  uint64_t end = 0; // equal to the beginning: nothing
};

// For one client. Not thread-safe.
class ReadStreams {
public:
  // Read-ahead begins and ends at multiples of this, except at the disk's end: cached blocks are
  // usually not larger.
  static constexpr uint64_t UNIT_BYTES = 64 << 10;
  static constexpr uint64_t MAX_AHEAD_BYTES = 4 << 20;

  // Called before a read.
  AheadRange on_read(uint64_t offset, uint64_t length_bytes, uint64_t size_bytes);

  // Only the part before `end` of on_read's last range has been requested.
  void stop_at(uint64_t end);

private:
  // Reads that follow each other, perhaps not quite in order.
  struct Stream {
    uint64_t end = 0;         // the end of the furthest read
    uint64_t read_bytes = 0;  // 0: unused
    uint64_t asked_until = 0; // 0: nothing yet
    uint64_t asked_bytes = 0;
    uint64_t last_read = 0; // its number
  };

  Stream &stream_of(uint64_t offset);
  static AheadRange range_ahead(const Stream &stream, uint64_t size_bytes);

  static constexpr size_t MAX_STREAMS = 8;
  std::array<Stream, MAX_STREAMS> streams_;
  Stream *last_ = nullptr;
  uint64_t reads_ = 0;
};

} // namespace asyncnbd::filters
