// See retry_check.hpp.
#include "filters/retry_check.hpp"
#include "wire/commands.hpp"

#include <cerrno>

namespace asyncnbd::filters {

using backend::Facts;
using backend::Request;
using backend::Support;

namespace {

bool can_change(uint16_t type, const Facts &can) {
  if (type == wire::NBD_CMD_TRIM)
    return can.can_write && can.can_trim;
  return can.can_write && (type != wire::NBD_CMD_WRITE_ZEROES || can.zero != Support::none);
}

bool can_serve(uint16_t type, const Facts &can) {
  switch (type) {
  case wire::NBD_CMD_FLUSH:
    return can.can_flush;
  case wire::NBD_CMD_BLOCK_STATUS:
    return can.can_extents;
  case wire::NBD_CMD_CACHE:
    return can.cache != Support::none;
  default:
    return true;
  }
}

} // namespace

int error_of_lack(const Request &request, const Facts &can) {
  const bool changes = wire::is_change(request.type);
  if (request.type != wire::NBD_CMD_FLUSH &&
      !backend::is_inside(request.offset, request.length_bytes, can.size_bytes))
    return changes ? ENOSPC : EIO;
  if (changes && !can_change(request.type, can))
    return EROFS;
  const bool is_durable = changes && (request.flags & wire::NBD_CMD_FLAG_FUA) != 0;
  const bool can_be_durable = !is_durable || can.fua != Support::none;
  return can_be_durable && can_serve(request.type, can) ? 0 : EIO;
}

} // namespace asyncnbd::filters
