// Replies as bytes: the usual ones are a header, made where the reply lies when it is sent; those
// of several chunks are made when their request is complete.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/buffers.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::nbd {

struct PendingRequest;

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
void encode_answer(PendingRequest &request, uint64_t block_bytes, base::BufferPool &memory);

} // namespace asyncnbd::nbd
