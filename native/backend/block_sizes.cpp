// See block_sizes.hpp.
#include "backend/block_sizes.hpp"

#include <cinttypes>

#include "host/log.hpp"

namespace asyncnbd::backend {

namespace {

bool is_power_of_two(uint32_t value) {
  return value > 0 && (value & (value - 1)) == 0;
}

// The rules of "Block size constraints", as nbdkit applies them to its plugins.
const char *block_size_fault(const BlockSizes &sizes) {
  if (!is_power_of_two(sizes.minimum) || sizes.minimum > 65536)
    return "the minimum must be a power of two up to 64 KiB";
  if (!is_power_of_two(sizes.preferred) || sizes.preferred < 512 || sizes.preferred > (32u << 20))
    return "the preferred size must be a power of two from 512 bytes to 32 MiB";
  if (sizes.maximum != UINT32_MAX && sizes.maximum % sizes.minimum != 0)
    return "the maximum must be a multiple of the minimum or 2^32-1";
  if (sizes.minimum > sizes.preferred || sizes.preferred > sizes.maximum)
    return "minimum, preferred and maximum must be in ascending order";
  return nullptr;
}

} // namespace

std::optional<BlockSizes> checked_block_sizes(const std::string &whose, const BlockSizes &sizes) {
  if (sizes.minimum == 0 && sizes.preferred == 0 && sizes.maximum == 0)
    return sizes; // no preference
  const char *fault = block_size_fault(sizes);
  if (fault == nullptr)
    return sizes;
  host::log_error("%sblock_size gave minimum %" PRIu32 ", preferred %" PRIu32 ", maximum %" PRIu32
                  " bytes: %s",
                  whose.c_str(), sizes.minimum, sizes.preferred, sizes.maximum, fault);
  return std::nullopt;
}

} // namespace asyncnbd::backend
