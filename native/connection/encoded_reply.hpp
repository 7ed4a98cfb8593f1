// Replies as bytes: the usual ones are a header, made where the reply lies when it is sent; those
// of several chunks are made when their request is complete.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <sys/uio.h>

#include "connection/buffers.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::connection {

struct PendingRequest;

// A reply of several chunks, or with more than data in its chunk. It lies in memory of a pool's, in
// front of what it consists of: thousands of them may wait for a client that does not read, and
// malloc would keep what they have taken.
struct EncodedReply {
  size_t bytes;            // to be sent
  size_t made_bytes;       // of memory that is its own
  std::span<iovec> pieces; // in the order in which they are to be sent
  Buffer *buffer;

  struct Release {
    void operator()(EncodedReply *reply) const { reply->buffer->unref(); }
  };
  using Owner = std::unique_ptr<EncodedReply, Release>;
};

// More memory pieces than this no reply has.
constexpr size_t MAX_PIECES = 80;

// What a client of this style needs in front of a read's data.
size_t data_header_bytes(wire::ReplyStyle style);
// The most that is in front of a read's data or makes an error, of all styles.
constexpr size_t MAX_HEADER_BYTES = 48;

// The reply to a request without `encoded`: its header, and the bytes that follow it.
size_t header_bytes(const PendingRequest &request);
void encode_header(const PendingRequest &request);
bool has_data(const PendingRequest &request);

// Of a request that its backend has completed: makes what needs more than a header. Sets its
// error if the backend's answer cannot be told. What the backend has said besides is not needed any
// more then.
void encode_answer(PendingRequest &request, uint64_t block_bytes, BufferPool &memory);

} // namespace asyncnbd::connection
