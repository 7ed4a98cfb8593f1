// See moved_layer.hpp.
#include "filters/moved_layer.hpp"

#include <cerrno>

#include "backend/sparse.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

using backend::Request;
using backend::Reservation;

bool MovedLayer::collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) {
  if (!Layer::collect(wanted, facts, error))
    return false;
  const std::optional<DiskPart> part = find_part(*facts, error);
  if (!part || !keeps_blocks(*part, *facts, error))
    return false;
  offset_ = part->offset;
  facts->size_bytes = part->length;
  return true;
}

// Whole blocks of the part must be whole blocks below, if the facts promise that.
bool MovedLayer::keeps_blocks(const DiskPart &part, const backend::Facts &below,
                              std::string *error) const {
  if (!below.block_sizes_bind || !below.block_sizes || below.block_sizes->minimum <= 1)
    return true;
  const uint32_t block = below.block_sizes->minimum;
  const uint64_t end = part.offset + part.length;
  const bool begins_well = part.offset % block == 0;
  if (begins_well && (end % block == 0 || end == below.size_bytes))
    return true;
  *error = std::string("filter ") + filter_name() + ": the part " +
           (begins_well ? "ends at " + std::to_string(end)
                        : "begins at " + std::to_string(part.offset)) +
           ", which is not a multiple of the block size below it, " + std::to_string(block) +
           ": put --filter=blocksize after --filter=" + filter_name();
  return false;
}

Reservation MovedLayer::reserve(Request &request) {
  move(request, offset_);
  const Reservation reservation = below().reserve(request);
  move(request, -offset_);
  return reservation;
}

void MovedLayer::unreserve(Request &request) {
  move(request, offset_);
  below().unreserve(request);
  move(request, -offset_);
}

void MovedLayer::submit(Request &request, backend::Caller caller) {
  if (!request.completers.push(*this)) {
    refuse(request, ENOMEM);
    return;
  }
  move(request, offset_);
  below().submit(request, caller);
}

void MovedLayer::complete(Request &request, int error) {
  request.completers.pop(*this);
  move(request, -offset_);
  // Clients must not see what follows the part.
  if (request.type == wire::NBD_CMD_BLOCK_STATUS)
    for (backend::ContextStatus &status : request.extras->statuses)
      backend::cut_extents(status.extents, facts().size_bytes - request.offset);
  request.complete(error);
}

void MovedLayer::give_up(Request &request, int error) {
  request.completers.pop(*this);
  move(request, -offset_);
  request.give_up(error);
}

void MovedLayer::move(Request &request, uint64_t by) {
  request.offset += by;
  if (request.data_until > 0)
    request.data_until += by;
  if (!request.extras)
    return;
  if (request.extras->error_offset)
    *request.extras->error_offset += by;
  if (request.extras->runs)
    for (backend::Run &run : *request.extras->runs)
      run.offset += by;
}

} // namespace asyncnbd::filters
