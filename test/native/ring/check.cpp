// See check.hpp.
#include "check.hpp"

#include <cerrno>

#include "backend/request.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace ring {

using namespace asyncnbd;
using namespace asyncnbd::wire;

namespace {

constexpr uint32_t bit(uint16_t type) {
  return type < 16 ? 1U << type : 0;
}

constexpr uint32_t MODIFYING = bit(NBD_CMD_WRITE) | bit(NBD_CMD_TRIM) | bit(NBD_CMD_WRITE_ZEROES);
constexpr uint32_t WITH_DATA = bit(NBD_CMD_READ) | bit(NBD_CMD_WRITE) | bit(NBD_CMD_BLOCK_STATUS);

uint16_t allowed_flags(uint16_t type, uint32_t offers) {
  uint16_t flags = 0;
  if ((MODIFYING & bit(type)) != 0 && (offers & Welcome::FUA) != 0)
    flags |= NBD_CMD_FLAG_FUA;
  if (type == NBD_CMD_WRITE_ZEROES)
    flags |= NBD_CMD_FLAG_NO_HOLE;
  if (type == NBD_CMD_WRITE_ZEROES && (offers & Welcome::FAST_ZERO) != 0)
    flags |= NBD_CMD_FLAG_FAST_ZERO;
  if (type == NBD_CMD_BLOCK_STATUS)
    flags |= NBD_CMD_FLAG_REQ_ONE;
  return flags;
}

int check_data(const RequestEntry &entry) {
  if ((WITH_DATA & bit(entry.type)) == 0)
    return entry.data_at == 0 && entry.data_bytes == 0 ? 0 : EINVAL;
  if (!backend::is_inside(entry.data_at, entry.data_bytes, DATA_BYTES))
    return EFAULT;
  if (moves_data(entry.type))
    return entry.data_bytes == entry.length_bytes ? 0 : EINVAL;
  const bool is_aligned = entry.data_at % alignof(ExtentEntry) == 0;
  return is_aligned && entry.data_bytes >= sizeof(ExtentEntry) ? 0 : EINVAL;
}

} // namespace

bool moves_data(uint16_t type) {
  return type == NBD_CMD_READ || type == NBD_CMD_WRITE;
}

uint32_t offers_of(const backend::Facts &facts) {
  using backend::Support;
  uint32_t offers = bit(NBD_CMD_READ);
  const auto offer = [&offers](bool is_offered, uint32_t bits) { offers |= is_offered ? bits : 0; };
  offer(facts.can_write, bit(NBD_CMD_WRITE));
  offer(facts.can_flush, bit(NBD_CMD_FLUSH));
  offer(facts.can_write && facts.can_trim, bit(NBD_CMD_TRIM));
  offer(facts.can_write && facts.zero != Support::none, bit(NBD_CMD_WRITE_ZEROES));
  offer(facts.cache != Support::none, bit(NBD_CMD_CACHE));
  offer(facts.can_extents, bit(NBD_CMD_BLOCK_STATUS));
  offer(facts.can_write && facts.fua != Support::none, Welcome::FUA);
  offer(facts.can_fast_zero, Welcome::FAST_ZERO);
  return offers;
}

int check(const RequestEntry &entry, const backend::Facts &facts) {
  const uint32_t offers = offers_of(facts);
  if ((MODIFYING & bit(entry.type)) != 0 && !facts.can_write)
    return EPERM;
  if ((offers & bit(entry.type)) == 0 || (entry.flags & ~allowed_flags(entry.type, offers)) != 0)
    return EINVAL;
  if (entry.type == NBD_CMD_FLUSH && (entry.offset != 0 || entry.length_bytes != 0))
    return EINVAL;
  if (entry.type != NBD_CMD_FLUSH &&
      (entry.length_bytes == 0 ||
       !backend::is_inside(entry.offset, entry.length_bytes, facts.size_bytes)))
    return EINVAL;
  return check_data(entry);
}

} // namespace ring
