// A reply of several chunks as the bytes that are sent: see reply_encoding.hpp.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <sys/uio.h>

#include "base/buffers.hpp"

namespace asyncnbd::nbd {

// A reply of several chunks, or with more than data in its chunk. It lies in memory of a pool's, in
// front of what it consists of: thousands of them may wait for a client that does not read, and
// malloc would keep what they have taken.
struct EncodedReply {
  size_t bytes;            // to be sent
  size_t made_bytes;       // of memory that is its own
  std::span<iovec> pieces; // in the order in which they are to be sent
  base::Buffer *buffer;

  struct Release {
    void operator()(EncodedReply *reply) const { reply->buffer->unref(); }
  };
  using Owner = std::unique_ptr<EncodedReply, Release>;
};

// More memory pieces than this no reply has.
constexpr size_t MAX_PIECES = 80;

} // namespace asyncnbd::nbd
