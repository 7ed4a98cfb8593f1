// Sees which of a client's reads follow each other, and says what to read ahead of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace asyncnbd::filters {

// In bytes.
struct AheadRange {
  uint64_t begin = 0;
  uint64_t end = 0; // the same: nothing
};

// Of one client. Not thread-safe.
class ReadStreams {
public:
  // What is read ahead begins and ends at multiples of it, but for the disk's end: blocks that are
  // cached are not larger, usually.
  static constexpr uint64_t UNIT_BYTES = 64 << 10;
  static constexpr uint64_t MAX_AHEAD_BYTES = 4 << 20;

  // Of a read that is to be done.
  AheadRange on_read(uint64_t offset, uint64_t length_bytes, uint64_t size_bytes);

  // Of a range that on_read has returned last, only what is before `end` has been asked for.
  void stop_at(uint64_t end);

private:
  // Reads that follow each other, though perhaps not quite in order.
  struct Stream {
    uint64_t end = 0;         // of the furthest read
    uint64_t read_bytes = 0;  // 0: it is none
    uint64_t asked_until = 0; // 0: nothing yet
    uint64_t asked_bytes = 0;
    uint64_t last_read = 0; // the number of it
  };

  Stream &stream_of(uint64_t offset);
  static AheadRange range_ahead(const Stream &stream, uint64_t size_bytes);

  static constexpr size_t MAX_STREAMS = 8;
  std::array<Stream, MAX_STREAMS> streams_;
  Stream *last_ = nullptr;
  uint64_t reads_ = 0;
};

} // namespace asyncnbd::filters
