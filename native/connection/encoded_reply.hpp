// Replies as bytes: the usual ones are a header, made where the reply lies when it is sent; those
// of several chunks are made when their request is complete.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <sys/uio.h>
#include <vector>

#include "wire/wire.hpp"

namespace asyncnbd::connection {

struct PendingRequest;

// A reply of several chunks, or with more than data in its chunk.
class EncodedReply {
public:
  size_t bytes() const { return bytes_; }
  // Of memory that is its own.
  size_t made_bytes() const { return made_.capacity() + pieces_.capacity() * sizeof(iovec); }
  // In the order in which they are to be sent.
  const std::vector<iovec> &pieces() const { return pieces_; }

private:
  friend class ReplyBuilder;
  std::string made_;
  std::vector<iovec> pieces_;
  size_t bytes_ = 0;
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
// error if the backend's answer cannot be told.
void encode_answer(PendingRequest &request, uint64_t block_bytes);

} // namespace asyncnbd::connection
