// See cow_layer.hpp.
#include "filters/cow_layer.hpp"

#include <algorithm>
#include <cerrno>

#include "base/invariant.hpp"
#include "filters/cow_debug.hpp"
#include "filters/debug_flags.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;
using backend::Support;

} // namespace

CowLayer::CowLayer(std::unique_ptr<Backend> opened, const backend::Opening &opening,
                   const CowSettings &settings, CowDisk &disk)
    : Layer(std::move(opened)), is_readonly_(opening.is_readonly),
      client_{{below()}, opening.context, disk, settings, {settings.block_bytes, disk.size_bytes}},
      operations_(client_) {}

bool CowLayer::collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) {
  if (!Layer::collect(wanted, facts, error))
    return false;
  facts->can_write = !is_readonly_;
  facts->can_trim = !is_readonly_;
  facts->can_fast_zero = !is_readonly_;
  facts->zero = is_readonly_ ? Support::none : Support::native;
  facts->fua = is_readonly_ ? Support::none : Support::native;
  facts->can_flush = true;
  facts->can_extents = true;
  facts->has_sparse_reads = false; // the lookup would not see copied blocks
  facts->cache = Support::native;
  facts->can_multi_conn = !facts->serializes_connections;
  prefer_whole_blocks(facts, client_.settings.block_bytes);
  return true;
}

bool CowLayer::are_all(const Request &request, CowState *state) const {
  const uint64_t first = client_.blocks.block_of(request.offset);
  const uint64_t last = client_.blocks.block_of(request.offset + request.length_bytes - 1);
  return client_.disk.run(first, last, state) == last - first + 1;
}

bool CowLayer::copies(const Request &request) const {
  if (request.type == wire::NBD_CMD_CACHE)
    return client_.settings.on_cache;
  return client_.settings.on_read.is_now();
}

// The disk below never changes, so a read of it may be answered at any time.
Reservation CowLayer::reserve(Request &request) {
  if (debug::cow_verbose.is_on())
    return {}; // otherwise some would not be submitted, and not logged
  if (request.type != wire::NBD_CMD_WRITE)
    return passes_on(request) ? below().reserve(request) : Reservation{};
  if (uint8_t *data = begin_receiving(request))
    return {.data = data, .is_file = true};
  return {.takes_pages = client_.disk.file->takes_pages()};
}

// Reads of copied blocks have no reservation.
void CowLayer::unreserve(Request &request) {
  base::invariant(request.type == wire::NBD_CMD_WRITE, "only writes are unreserved");
  client_.disk.file->end_receiving(request.length_bytes, request.offset);
}

// Only if all blocks have been copied; other blocks are changed with a claim on them. Zeroing that
// happens meanwhile counts as if it came later.
uint8_t *CowLayer::begin_receiving(const Request &request) {
  if (is_readonly_)
    return nullptr;
  uint8_t *data = client_.disk.file->begin_receiving(request.length_bytes, request.offset);
  if (data == nullptr)
    return nullptr;
  CowState state;
  // Checked after the beginning: zeroing first sets the state, and then gives the space back.
  if (are_all(request, &state) && state == CowState::copied)
    return data;
  client_.disk.file->end_receiving(request.length_bytes, request.offset);
  return nullptr;
}

uint32_t CowLayer::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  const auto block_bytes = static_cast<uint32_t>(client_.settings.block_bytes);
  const auto fill = static_cast<uint32_t>(client_.settings.fill_bytes());
  const uint32_t own = sizeof(CowOperation);
  switch (type) {
  case wire::NBD_CMD_WRITE:
  case wire::NBD_CMD_TRIM:
  case wire::NBD_CMD_WRITE_ZEROES:
    return own + block_bytes + below().bytes_besides(wire::NBD_CMD_READ, block_bytes);
  case wire::NBD_CMD_READ:
    if (client_.settings.on_read.may_be())
      return own + fill + below().bytes_besides(type, std::max<uint64_t>(fill, length_bytes));
    return own + below().bytes_besides(type, length_bytes);
  case wire::NBD_CMD_CACHE:
    if (client_.settings.on_cache)
      return own + fill + below().bytes_besides(wire::NBD_CMD_READ, fill);
    return below().bytes_besides(type, length_bytes);
  default:
    return own + below().bytes_besides(type, length_bytes);
  }
}

bool CowLayer::passes_on(const Request &request) const {
  if (request.type == wire::NBD_CMD_CACHE)
    return !client_.settings.on_cache && client_.below.facts().cache != Support::none;
  CowState state;
  return request.type == wire::NBD_CMD_READ && are_all(request, &state) &&
         state == CowState::below && !copies(request);
}

void CowLayer::submit(Request &request, Caller caller) {
  const uint16_t type = request.type;
  const bool reads = type == wire::NBD_CMD_READ;
  const bool caches = type == wire::NBD_CMD_CACHE;
  if (debug::cow_verbose.is_on())
    log_request(client_, request);
  int error = 0;
  if (type == wire::NBD_CMD_WRITE && request.is_reserved) {
    unreserve(request); // its data has been received
    request.complete(0);
  } else if (passes_on(request))
    below().submit(request, caller);
  else if (caller == Caller::may_block && perform_now(request, &error))
    request.complete(error);
  else if (type == wire::NBD_CMD_FLUSH || (caches && !client_.settings.on_cache) ||
           (reads && request.is_reserved))
    request.complete(0); // nothing to make durable or to cache, or a reserved read
  else if (wire::is_change(type) && is_readonly_)
    request.complete(EROFS);
  else if (CowOperation *operation = operations_.get())
    operation->begin(request, (reads || caches) && copies(request), caller);
  else
    request.complete(ENOMEM);
}

// Does a request whose blocks have all been copied. False: it needs an operation.
bool CowLayer::perform_now(Request &request, int *error) {
  const bool reads = request.type == wire::NBD_CMD_READ && !request.is_reserved;
  const bool writes = request.type == wire::NBD_CMD_WRITE && !is_readonly_;
  CowState state;
  if ((!reads && !writes) || !are_all(request, &state) || state != CowState::copied)
    return false;
  if (reads)
    *error = read_file(*client_.disk.file, request, true);
  else if (request.pages)
    *error = client_.disk.file->overwrite_pages(std::move(request.pages), request.length_bytes,
                                                request.offset);
  else
    *error = client_.disk.file->overwrite(request.data, request.length_bytes, request.offset);
  return true;
}

void CowLayer::give_up_unanswered() {
  BlockOperation::give_up(client_, *client_.disk.work);
  below().give_up_unanswered();
}

void CowLayer::release_idle_memory() {
  operations_.trim();
  below().release_idle_memory();
}

} // namespace asyncnbd::filters
