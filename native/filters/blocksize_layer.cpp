// See blocksize_layer.hpp.
#include "filters/blocksize_layer.hpp"
#include "wire/commands.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace asyncnbd::filters {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;

BlocksizeLayer::BlocksizeLayer(std::unique_ptr<Backend> opened, const BlocksizeSettings &settings,
                               BlocksizeDisk &disk)
    : EmulatedLayer(std::move(opened)), settings_(settings), client_{{below()}, disk, {}} {}

// Clients are told the widest possible limits.
bool BlocksizeLayer::collect(const backend::Wanted &wanted, backend::Facts *facts,
                             std::string *error) {
  constexpr uint32_t LEAST_PREFERRED_BYTES = 4096;
  backend::Wanted of_below = wanted;
  of_below.block_sizes = true;
  if (!EmulatedLayer::collect(of_below, facts, error))
    return false;
  if (!facts->block_sizes) {
    *error = "filter blocksize: the plugin failed to report its block sizes";
    return false;
  }
  if (!set_limits(*facts->block_sizes, error))
    return false;
  facts->size_bytes = client_.limits.round_down(facts->size_bytes);
  const auto block = static_cast<uint32_t>(client_.limits.block);
  facts->block_sizes = {1, std::max({facts->block_sizes->preferred, LEAST_PREFERRED_BYTES, block}),
                        UINT32_MAX};
  facts->block_sizes_bind = false;
  return true;
}

bool BlocksizeLayer::set_limits(const backend::BlockSizes &sizes, std::string *error) {
  constexpr uint64_t MAX_DATA = 64 << 20;
  BlocksizeLimits &limits = client_.limits;
  limits.block = std::max<uint64_t>({settings_.min_block, sizes.minimum, 1});
  uint64_t data = settings_.max_data;
  if (data == 0)
    data = settings_.max_length > 0 ? std::min(settings_.max_length, MAX_DATA) : MAX_DATA;
  if (sizes.maximum > 0)
    data = std::min<uint64_t>(data, sizes.maximum);
  limits.data = limits.round_down(data);
  const uint64_t length = settings_.max_length > 0 ? settings_.max_length : UINT32_MAX;
  limits.length = limits.round_down(length);
  if (limits.data > 0 && limits.length > 0)
    return true;
  *error = "filter blocksize: maxdata and maxlen must be at least " + std::to_string(limits.block) +
           " bytes, the block size of this export";
  return false;
}

// Whether the backend below can take the request unchanged.
bool BlocksizeLayer::is_whole(const Request &request) const {
  const BlocksizeLimits &limits = client_.limits;
  switch (request.type) {
  case wire::NBD_CMD_READ:
  case wire::NBD_CMD_WRITE:
  case wire::NBD_CMD_CACHE:
    return limits.are_whole_blocks(request.offset, request.length_bytes) &&
           request.length_bytes <= limits.data;
  case wire::NBD_CMD_TRIM:
  case wire::NBD_CMD_WRITE_ZEROES:
    return limits.are_whole_blocks(request.offset, request.length_bytes) &&
           request.length_bytes <= limits.length;
  case wire::NBD_CMD_BLOCK_STATUS: // otherwise its answer must be aligned
    return limits.block == 1 && request.length_bytes <= limits.length;
  default:
    return true;
  }
}

bool BlocksizeLayer::is_counted(const Request &request) const {
  return client_.limits.block > 1 && wire::is_change(request.type);
}

// A write that is received on the disk would have to be counted while its client sends it, and
// others would wait for that.
Reservation BlocksizeLayer::reserve(Request &request) {
  if (!is_whole(request))
    return {};
  const Reservation reservation = below().reserve(request);
  if (reservation.data == nullptr || reservation.spares_copy || !is_counted(request))
    return reservation;
  below().unreserve(request);
  return {};
}

void BlocksizeLayer::unreserve(Request &request) {
  below().unreserve(request);
}

uint32_t BlocksizeLayer::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  const BlocksizeLimits &limits = client_.limits;
  const uint32_t own = sizeof(BlocksizeOperation);
  const auto block = static_cast<uint32_t>(limits.block > 1 ? limits.block : 0);
  const uint64_t data = std::max(std::min(length_bytes, limits.data), limits.block);
  const uint64_t length = std::max(std::min(length_bytes, limits.length), limits.block);
  const uint32_t read = below().bytes_besides(wire::NBD_CMD_READ, data);
  const uint32_t written = below().bytes_besides(wire::NBD_CMD_WRITE, data);
  switch (type) {
  case wire::NBD_CMD_READ:
    return own + block + read;
  case wire::NBD_CMD_WRITE:
    return own + block + std::max(read, written);
  case wire::NBD_CMD_WRITE_ZEROES:
    return own + block + std::max({read, written, below().bytes_besides(type, length)});
  case wire::NBD_CMD_FLUSH:
    return below().bytes_besides(type, length_bytes);
  default:
    return own + below().bytes_besides(type, type == wire::NBD_CMD_CACHE ? data : length);
  }
}

// A fast zero must not take several calls.
void BlocksizeLayer::submit(Request &request, Caller caller) {
  const bool is_fast_zero = request.type == wire::NBD_CMD_WRITE_ZEROES &&
                            (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
  const bool passes = is_whole(request);
  if (passes && !is_counted(request))
    below().submit(request, caller);
  else if (passes && client_.disk.begin_counted())
    submit_counted(request, caller);
  else if (is_fast_zero && !passes)
    request.complete(ENOTSUP);
  else if (BlocksizeOperation *operation = operations_.get())
    operation->begin(request, caller);
  else
    refuse(request, ENOMEM);
}

void BlocksizeLayer::submit_counted(Request &request, Caller caller) {
  if (request.completers.push(*this)) {
    below().submit(request, caller);
    return;
  }
  client_.disk.end_counted();
  refuse(request, ENOMEM);
}

void BlocksizeLayer::complete(Request &request, int error) {
  request.completers.pop(*this);
  client_.disk.end_counted();
  request.complete(error);
}

void BlocksizeLayer::give_up(Request &request, int error) {
  request.completers.pop(*this);
  client_.disk.end_counted();
  request.give_up(error);
}

void BlocksizeLayer::give_up_unanswered() {
  BlockOperation::give_up(client_, *client_.disk.work);
  below().give_up_unanswered();
}

void BlocksizeLayer::release_idle_memory() {
  operations_.trim();
  below().release_idle_memory();
}

} // namespace asyncnbd::filters
