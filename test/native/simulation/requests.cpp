// See requests.hpp.
#include "requests.hpp"

#include <algorithm>

#include "content.hpp"
#include "fibers.hpp"
#include "wire/commands.hpp"

namespace simulation {

using namespace asyncnbd;
using namespace asyncnbd::wire;

namespace {

constexpr uint64_t WRONG_ONE_IN = 32;
constexpr uint16_t UNKNOWN_COMMAND = 99;
// Of a read whose holes are looked up first.
constexpr uint32_t MIN_SPARSE_BYTES = 16 << 10;

uint16_t draw_type(const Plan &plan, Random &random) {
  if (random.below(8) == 0)
    return NBD_CMD_FLUSH;
  if (plan.style != ReplyStyle::simple && random.below(8) == 0)
    return NBD_CMD_BLOCK_STATUS;
  if (random.below(8) == 0) {
    constexpr uint16_t RARE[] = {NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES};
    return RARE[random.below(3)];
  }
  const bool writes = plan.are_writers ? random.below(8) > 0 : random.below(3) == 0;
  return writes ? NBD_CMD_WRITE : NBD_CMD_READ;
}

// Only holes are zeroed, where it changes nothing.
void place_in_hole(Random &random, Asked &asked) {
  const uint64_t hole = random_hole(random, DISK_BYTES);
  asked.length_bytes = static_cast<uint32_t>(random.between(1, HOLE_BYTES_EACH));
  asked.offset = hole + random.below(HOLE_BYTES_EACH - asked.length_bytes + 1);
  asked.flags |= zero_flags(asked.offset);
}

// What the server is to refuse without asking the plugin.
void make_wrong(const Plan &plan, Random &random, Asked &asked) {
  asked.expected_error = NBD_EINVAL;
  switch (random.below(4)) {
  case 0: // behind the end
    asked.offset = DISK_BYTES - asked.length_bytes + random.between(1, 1 << 20);
    if (asked.type == NBD_CMD_WRITE || asked.type == NBD_CMD_WRITE_ZEROES)
      asked.expected_error = NBD_ENOSPC;
    break;
  case 1: // a flag that was not offered, or is another command's
    asked.flags |= plan.fua == Support::none && is_change(asked.type) ? NBD_CMD_FLAG_FUA
                   : asked.type == NBD_CMD_BLOCK_STATUS               ? NBD_CMD_FLAG_DF
                                                                      : NBD_CMD_FLAG_REQ_ONE;
    break;
  case 2: // has no payload, which only what is known has
    asked.type = UNKNOWN_COMMAND;
    asked.flags = 0;
    break;
  case 3: // has no range
    asked.type = NBD_CMD_FLUSH;
    asked.flags = 0;
    asked.offset = 1 + random.below(DISK_BYTES);
    break;
  }
}

// Whether the plugin gets it in pieces, each of which may be for a place that is broken.
bool may_be_in_pieces(const Plan &plan, const Asked &asked) {
  switch (asked.type) {
  case NBD_CMD_READ:
    return plan.looks_for_holes && plan.style != ReplyStyle::simple &&
           (asked.flags & NBD_CMD_FLAG_DF) == 0 && asked.length_bytes >= MIN_SPARSE_BYTES;
  case NBD_CMD_TRIM:
  case NBD_CMD_CACHE:
  case NBD_CMD_BLOCK_STATUS:
    return asked.length_bytes > plan.longest_range_bytes;
  default:
    return false;
  }
}

} // namespace

uint16_t offered_flags(const Plan &plan) {
  uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_TRIM |
                   NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
  if (plan.fua != Support::none)
    flags |= NBD_FLAG_SEND_FUA;
  if (plan.style != ReplyStyle::simple)
    flags |= NBD_FLAG_SEND_DF;
  return flags;
}

Asked draw_request(const Plan &plan) {
  Random &random = random_of_run();
  const bool is_large = plan.large_one_in > 0 && random.one_in(plan.large_one_in);
  Asked asked{};
  asked.type = draw_type(plan, random);
  if (asked.type == NBD_CMD_FLUSH)
    return asked;
  asked.length_bytes =
      static_cast<uint32_t>(random.between(1, is_large ? LARGEST_REQUEST_BYTES : 4096));
  asked.offset = random.below((random.one_in(2) ? DISK_BYTES : DISK_BYTES / 64) -
                              asked.length_bytes); // many in the part that lies in memory
  if (asked.type == NBD_CMD_WRITE_ZEROES)
    place_in_hole(random, asked);
  if (plan.fua != Support::none && is_change(asked.type) && random.one_in(4))
    asked.flags |= NBD_CMD_FLAG_FUA;
  if (asked.type == NBD_CMD_READ && plan.style != ReplyStyle::simple && random.one_in(4))
    asked.flags |= NBD_CMD_FLAG_DF;
  if (asked.type == NBD_CMD_BLOCK_STATUS && random.one_in(4))
    asked.flags |= NBD_CMD_FLAG_REQ_ONE;
  if (random.one_in(WRONG_ONE_IN))
    make_wrong(plan, random, asked);
  return asked;
}

bool may_end_so(const Plan &plan, const Asked &asked) {
  const bool is_flush = asked.type == NBD_CMD_FLUSH;
  const bool is_fast = (asked.flags & NBD_CMD_FLAG_FAST_ZERO) != 0;
  if (is_fast && asked.error == NBD_ENOTSUP) // the plugin may be so as well
    return true;
  if (is_fast && plan.zero != Support::native)
    return false;
  const bool is_at_broken = !is_flush && is_broken(asked.offset);
  if (asked.error == 0)
    return !is_at_broken;
  const bool flushes = is_flush || (asked.flags & NBD_CMD_FLAG_FUA) != 0;
  const bool may_fail =
      is_at_broken || may_be_in_pieces(plan, asked) || (flushes && plan.fail_flush_one_in > 0);
  return asked.error == NBD_EIO && may_fail;
}

} // namespace simulation
