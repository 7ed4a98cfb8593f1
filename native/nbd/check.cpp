// See check.hpp.
#include "nbd/check.hpp"

#include <cerrno>

#include "backend/request.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::nbd {

using namespace wire;

namespace {

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

int check_flags(const RequestHeader &header, const Command &command, ReplyStyle style,
                uint16_t facts) {
  const bool is_extended = style == ReplyStyle::extended; // then check_payload has seen to this:
  const uint16_t for_payload = is_extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
  if ((header.flags & ~(command.allowed_flags | NBD_CMD_FLAG_FUA | for_payload)) != 0)
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

int check_range(const RequestHeader &header, const Command &command, uint64_t size_bytes) {
  if (!command.has_range)
    return header.offset == 0 && header.length_bytes == 0 ? 0 : EINVAL;
  // A length of zero is left open by the specification; nbdkit counts it as out of range.
  const bool is_inside =
      header.length_bytes > 0 && backend::is_inside(header.offset, header.length_bytes, size_bytes);
  return is_inside ? 0 : command.out_of_range;
}

// What the client was told of lengths and blocks.
int check_sizes(const RequestHeader &header, const Command &command, const ExportFacts &facts) {
  const uint64_t most = facts.block_sizes_bind ? facts.max_payload_bytes : MAX_PAYLOAD_BYTES;
  if (command.payload_limited && header.length_bytes > most)
    return EINVAL;
  return command.has_range && facts.block_sizes_bind && !is_aligned(header, facts) ? EINVAL : 0;
}

} // namespace

int check_request(const RequestHeader &header, ReplyStyle style, const ExportFacts &facts) {
  const Command *command = served_command(header.type);
  if (command == nullptr || (command->needs_contexts && facts.contexts.empty()))
    return EINVAL;
  if (command->modifies && (facts.transmission_flags & NBD_FLAG_READ_ONLY) != 0)
    return EPERM;
  if (int error = check_payload(header, style, facts))
    return error;
  if (has_query(header, style))
    return check_flags(header, *command, style, facts.transmission_flags);
  if (int error = check_range(header, *command, facts.size_bytes))
    return error;
  if (int error = check_flags(header, *command, style, facts.transmission_flags))
    return error;
  if (int error = check_sizes(header, *command, facts))
    return error;
  bool offered = (facts.transmission_flags & command->needed_flags) == command->needed_flags;
  return offered ? 0 : EINVAL;
}

} // namespace asyncnbd::nbd
