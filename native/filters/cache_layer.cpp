// See cache_layer.hpp.
#include "filters/cache_layer.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "filters/cache_debug.hpp"
#include "filters/debug_flags.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;
using backend::Support;

constexpr unsigned KEPT = UNWRITTEN | set_of(CacheState::clean);

bool has_flag(const Request &request, uint16_t flag) {
  return (request.flags & flag) != 0;
}

} // namespace

CacheLayer::CacheLayer(std::unique_ptr<Backend> opened, host::CallContext &context,
                       const CacheSettings &settings, CacheDisk &disk)
    : Layer(std::move(opened)), client_{{below()}, context, disk, settings}, operations_(client_) {}

// The facts are those of nbdkit's filter; zeroing is never faster than writing.
bool CacheLayer::collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) {
  if (!Layer::collect(wanted, facts, error))
    return false;
  const CacheMode mode = client_.settings.mode;
  facts->has_sparse_reads = false; // the lookup would not see what is cached
  facts->cache = Support::native;
  facts->can_fast_zero = facts->zero != Support::none;
  if (mode == CacheMode::unsafe) {
    facts->can_flush = true;
    facts->fua = Support::native;
  }
  if (mode != CacheMode::writethrough)
    facts->can_multi_conn = !facts->serializes_connections;
  prefer_whole_blocks(facts, client_.disk.blocks.block_bytes);
  return true;
}

bool CacheLayer::has_none(const Request &request, unsigned states) const {
  const Blocks &blocks = client_.disk.blocks;
  return !client_.disk.find(blocks.block_of(request.offset),
                            blocks.block_of(request.offset + request.length_bytes - 1), states);
}

bool CacheLayer::has_all(const Request &request) const {
  const Blocks &blocks = client_.disk.blocks;
  return client_.disk.count_below(blocks.block_of(request.offset),
                                  blocks.block_of(request.offset + request.length_bytes - 1)) == 0;
}

bool CacheLayer::keeps(const Request &request) const {
  return request.type == wire::NBD_CMD_READ && client_.settings.on_read.is_now();
}

// A reserved read would be answered with the data below at that time. A write must not be on the
// disk before it is submitted, and may have to be divided if blocks are dropped.
Reservation CacheLayer::reserve(Request &request) {
  if (debug::cache_verbose.is_on())
    return {}; // otherwise some would not be submitted, and not logged
  if (request.type == wire::NBD_CMD_WRITE)
    return {nullptr, client_.disk.file->takes_pages() && !client_.disk.room.is_limited()};
  return request.type == wire::NBD_CMD_READ && passes_on(request) ? below().reserve(request)
                                                                  : Reservation{};
}

uint32_t CacheLayer::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  const auto piece = static_cast<uint32_t>(client_.piece_bytes());
  const uint32_t own = sizeof(CacheOperation);
  const uint32_t written = piece + below().bytes_besides(wire::NBD_CMD_WRITE, piece);
  const uint32_t fetched = piece + below().bytes_besides(wire::NBD_CMD_READ, piece);
  const uint32_t flushed = below().bytes_besides(wire::NBD_CMD_FLUSH, 0);
  switch (type) {
  case wire::NBD_CMD_WRITE:
  case wire::NBD_CMD_WRITE_ZEROES:
  case wire::NBD_CMD_CACHE:
    return own + std::max({written, fetched, flushed});
  case wire::NBD_CMD_FLUSH:
    return own + std::max(written, flushed);
  case wire::NBD_CMD_READ:
    if (client_.settings.on_read.may_be())
      return own + std::max({written, fetched, flushed, below().bytes_besides(type, length_bytes)});
    return own + below().bytes_besides(type, length_bytes);
  default:
    return own + below().bytes_besides(type, length_bytes);
  }
}

bool CacheLayer::passes_on(const Request &request) const {
  const bool is_unsafe = client_.settings.mode == CacheMode::unsafe;
  switch (request.type) {
  case wire::NBD_CMD_READ:
    return has_none(request, KEPT) && !keeps(request);
  case wire::NBD_CMD_BLOCK_STATUS:
    return has_none(request, UNWRITTEN);
  case wire::NBD_CMD_TRIM:
    return !is_unsafe || !has_flag(request, wire::NBD_CMD_FLAG_FUA);
  case wire::NBD_CMD_FLUSH:
    return !is_unsafe && (!client_.below.facts().can_write || // the client has written nothing
                          !client_.disk.find(0, client_.disk.last_block(), UNWRITTEN));
  default:
    return false;
  }
}

// Whether nothing needs to be done.
bool CacheLayer::is_done(const Request &request, int *error) const {
  const bool is_fast_zero =
      request.type == wire::NBD_CMD_WRITE_ZEROES && has_flag(request, wire::NBD_CMD_FLAG_FAST_ZERO);
  *error = is_fast_zero ? ENOTSUP : 0;
  return is_fast_zero ||
         (request.type == wire::NBD_CMD_FLUSH && client_.settings.mode == CacheMode::unsafe) ||
         (request.type == wire::NBD_CMD_READ && request.is_reserved);
}

void CacheLayer::submit(Request &request, Caller caller) {
  int error = 0;
  if (debug::cache_verbose.is_on())
    log_request(client_, request);
  if (passes_on(request))
    below().submit(request, caller);
  else if (is_done(request, &error) ||
           (caller == Caller::may_block && perform_now(request, &error)))
    request.complete(error);
  else if (CacheOperation *operation = operations_.get())
    operation->begin(request, keeps(request), caller);
  else
    request.complete(ENOMEM);
}

// Does a request whose blocks are all kept. False: it needs an operation.
bool CacheLayer::perform_now(Request &request, int *error) {
  CacheDisk &disk = client_.disk;
  if (request.type == wire::NBD_CMD_READ)
    return read_now(request, error);
  if (request.type != wire::NBD_CMD_WRITE || disk.room.is_limited() ||
      client_.writes_through(request.flags) || !has_all(request))
    return false;
  *error =
      disk.overwrite(request.data, std::move(request.pages), request.length_bytes, request.offset);
  return true;
}

// The pages of a dropped block may be used again, or zeroed.
bool CacheLayer::read_now(Request &request, int *error) {
  CacheDisk &disk = client_.disk;
  const CacheDisk::Reading reading(disk);
  if (!has_all(request))
    return false;
  *error = read_file(*disk.file, request, !disk.room.is_limited());
  if (request.pages) // valid without a check: pages are only used if no block is ever dropped
    return true;
  disk.room.touch(disk.blocks.block_of(request.offset),
                  disk.blocks.block_of(request.offset + request.length_bytes - 1));
  return reading.was_undisturbed();
}

void CacheLayer::give_up_unanswered() {
  CacheOperation::give_up(client_);
  below().give_up_unanswered();
}

void CacheLayer::release_idle_memory() {
  operations_.trim();
  below().release_idle_memory();
}

} // namespace asyncnbd::filters
