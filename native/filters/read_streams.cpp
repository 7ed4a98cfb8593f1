// See read_streams.hpp.
#include "filters/read_streams.hpp"

#include <algorithm>

namespace asyncnbd::filters {

namespace {

// A client with several reads in progress may send them out of order.
constexpr uint64_t MAX_DISORDER_BYTES = 512 << 10;
// A stream is only recognised after this much has been read.
constexpr uint64_t MIN_READ_BYTES = 128 << 10;
// One part in this many of what has been read is read ahead, and may turn out not to be needed.
constexpr uint64_t AHEAD_SHARE = 8;

constexpr uint64_t round_down(uint64_t value) {
  return value / ReadStreams::UNIT_BYTES * ReadStreams::UNIT_BYTES;
}

} // namespace

AheadRange ReadStreams::on_read(uint64_t offset, uint64_t length_bytes, uint64_t size_bytes) {
  Stream &stream = stream_of(offset);
  last_ = &stream;
  stream.last_read = ++reads_;
  stream.read_bytes += length_bytes;
  stream.end = std::max(stream.end, offset + length_bytes);
  const AheadRange range = range_ahead(stream, size_bytes);
  if (range.begin < range.end) {
    stream.asked_bytes += range.end - range.begin;
    stream.asked_until = range.end;
  }
  return range;
}

void ReadStreams::stop_at(uint64_t end) {
  last_->asked_bytes -= last_->asked_until - end;
  last_->asked_until = end;
}

// The stream that the read continues; otherwise a new one, which replaces the least recently read.
ReadStreams::Stream &ReadStreams::stream_of(uint64_t offset) {
  Stream *oldest = streams_.data();
  for (Stream &stream : streams_) {
    const bool follows = stream.read_bytes > 0 && offset + MAX_DISORDER_BYTES >= stream.end &&
                         offset <= stream.end + MAX_DISORDER_BYTES;
    if (follows)
      return stream;
    if (stream.last_read < oldest->last_read)
      oldest = &stream;
  }
  *oldest = {};
  return *oldest;
}

// If the client leaves gaps, little more is requested than has been read.
AheadRange ReadStreams::range_ahead(const Stream &stream, uint64_t size_bytes) {
  if (stream.read_bytes < MIN_READ_BYTES)
    return {};
  const uint64_t window = std::clamp(stream.read_bytes / AHEAD_SHARE, UNIT_BYTES, MAX_AHEAD_BYTES);
  const uint64_t begin = std::max(stream.asked_until, round_down(stream.end + UNIT_BYTES - 1));
  const uint64_t most = stream.read_bytes + window;
  if (stream.asked_bytes >= most || begin >= size_bytes)
    return {};
  const uint64_t wanted = std::min(stream.end + window, begin + (most - stream.asked_bytes));
  const uint64_t end = wanted >= size_bytes ? size_bytes : round_down(wanted);
  return begin < end ? AheadRange{begin, end} : AheadRange{};
}

} // namespace asyncnbd::filters
