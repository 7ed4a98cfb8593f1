// See check.hpp.
#include "nbd/check.hpp"

#include <cerrno>

#include "backend/request.hpp"

namespace asyncnbd::nbd {

using namespace wire;

namespace {

// What a command may carry and needs; commands without a rule are not served.
struct CommandRule {
  uint16_t allowed_flags; // besides NBD_CMD_FLAG_FUA
  uint16_t needed_facts;  // transmission flags without which the command is refused
  bool modifies;          // refused on a read-only export
  bool has_range;         // offset and length mean something
  bool limited_payload;   // the length is also the payload's, of the request or the reply
  int out_of_range;
};

const CommandRule *rule_of(uint16_t type) {
  static constexpr CommandRule READ{NBD_CMD_FLAG_DF, 0, false, true, true, EINVAL};
  static constexpr CommandRule BLOCK_STATUS{NBD_CMD_FLAG_REQ_ONE, 0, false, true, false, EINVAL};
  static constexpr CommandRule WRITE{0, 0, true, true, true, ENOSPC};
  static constexpr CommandRule FLUSH{0, NBD_FLAG_SEND_FLUSH, false, false, false, EINVAL};
  static constexpr CommandRule TRIM{0, NBD_FLAG_SEND_TRIM, true, true, false, EINVAL};
  static constexpr CommandRule CACHE{0, NBD_FLAG_SEND_CACHE, false, true, false, EINVAL};
  static constexpr CommandRule WRITE_ZEROES{NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
                                            NBD_FLAG_SEND_WRITE_ZEROES,
                                            true,
                                            true,
                                            false,
                                            ENOSPC};
  switch (type) {
  case NBD_CMD_READ:
    return &READ;
  case NBD_CMD_WRITE:
    return &WRITE;
  case NBD_CMD_FLUSH:
    return &FLUSH;
  case NBD_CMD_TRIM:
    return &TRIM;
  case NBD_CMD_CACHE:
    return &CACHE;
  case NBD_CMD_WRITE_ZEROES:
    return &WRITE_ZEROES;
  case NBD_CMD_BLOCK_STATUS:
    return &BLOCK_STATUS;
  default:
    return nullptr;
  }
}

// "Block size constraints": an export whose size is no multiple ends in a part of a block.
bool is_aligned(const RequestHeader &header, const ExportFacts &facts) {
  const uint64_t mask = facts.block_bytes - 1;
  const uint64_t end = header.offset + header.length_bytes;
  return (header.offset & mask) == 0 && ((end & mask) == 0 || end == facts.size_bytes);
}

// A block status that brings its range and its contexts in a payload.
bool has_query(const RequestHeader &header, ReplyStyle style) {
  return header.type == NBD_CMD_BLOCK_STATUS && payload_bytes(header, style) > 0;
}

// "NBD_CMD_FLAG_PAYLOAD_LEN": a write must have it and nothing else may, but for a query.
int check_payload(const RequestHeader &header, ReplyStyle style, const ExportFacts &facts) {
  const bool has_flag = (header.flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0;
  const bool is_write = header.type == NBD_CMD_WRITE;
  if (style != ReplyStyle::extended)
    return 0; // an unknown flag among others
  if (has_flag != is_write && !has_query(header, style))
    return EINVAL;
  const bool may_query = (facts.transmission_flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD) != 0;
  return has_query(header, style) && !may_query ? EINVAL : 0;
}

int check_flags(const RequestHeader &header, const CommandRule &rule, ReplyStyle style,
                uint16_t facts) {
  const bool is_extended = style == ReplyStyle::extended; // then check_payload has seen to this:
  const uint16_t for_payload = is_extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
  if ((header.flags & ~(rule.allowed_flags | NBD_CMD_FLAG_FUA | for_payload)) != 0)
    return EINVAL;
  // FUA must be accepted on every command once it was offered: Linux sends it on flushes too.
  if ((header.flags & NBD_CMD_FLAG_FUA) != 0 && (facts & NBD_FLAG_SEND_FUA) == 0)
    return EINVAL;
  if ((header.flags & NBD_CMD_FLAG_DF) != 0 && (facts & NBD_FLAG_SEND_DF) == 0)
    return EINVAL;
  if ((header.flags & NBD_CMD_FLAG_FAST_ZERO) != 0 && (facts & NBD_FLAG_SEND_FAST_ZERO) == 0)
    return EINVAL;
  return 0;
}

int check_range(const RequestHeader &header, const CommandRule &rule, uint64_t size_bytes) {
  if (!rule.has_range)
    return header.offset == 0 && header.length_bytes == 0 ? 0 : EINVAL;
  // A length of zero is left open by the specification; nbdkit counts it as out of range.
  const bool is_inside =
      header.length_bytes > 0 && backend::is_inside(header.offset, header.length_bytes, size_bytes);
  return is_inside ? 0 : rule.out_of_range;
}

// What the client was told of lengths and blocks.
int check_sizes(const RequestHeader &header, const CommandRule &rule, const ExportFacts &facts) {
  const uint64_t most = facts.block_sizes_bind ? facts.max_payload_bytes : MAX_PAYLOAD_BYTES;
  if (rule.limited_payload && header.length_bytes > most)
    return EINVAL;
  return rule.has_range && facts.block_sizes_bind && !is_aligned(header, facts) ? EINVAL : 0;
}

} // namespace

int check_request(const RequestHeader &header, ReplyStyle style, const ExportFacts &facts) {
  const CommandRule *rule = rule_of(header.type);
  if (rule == nullptr || (header.type == NBD_CMD_BLOCK_STATUS && facts.contexts.empty()))
    return EINVAL;
  if (rule->modifies && (facts.transmission_flags & NBD_FLAG_READ_ONLY) != 0)
    return EPERM;
  if (int error = check_payload(header, style, facts))
    return error;
  if (has_query(header, style))
    return check_flags(header, *rule, style, facts.transmission_flags);
  if (int error = check_range(header, *rule, facts.size_bytes))
    return error;
  if (int error = check_flags(header, *rule, style, facts.transmission_flags))
    return error;
  if (int error = check_sizes(header, *rule, facts))
    return error;
  bool offered = (facts.transmission_flags & rule->needed_facts) == rule->needed_facts;
  return offered ? 0 : EINVAL;
}

} // namespace asyncnbd::nbd
