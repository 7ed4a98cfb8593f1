// See cow_debug.hpp.
#include "filters/cow_debug.hpp"

#include <algorithm>
#include <cinttypes>

#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

namespace {

void log_blocks(const CowClient &client, const char *what, uint64_t first, uint64_t count,
                const char *how) {
  host::log_debug("cow: %s block %" PRIu64 " (offset %" PRIu64 ") run of length %" PRIu64 "%s",
                  what, first, client.blocks.begin_of(first), count, how);
}

// One line for each run of blocks that are all copied, or none of them.
void log_found(const CowClient &client, const char *what, uint64_t first, uint64_t last) {
  while (first <= last) {
    CowState state;
    const uint64_t count = client.disk.run(first, last, &state);
    log_blocks(client, what, first, count,
               state == CowState::below  ? " is not allocated"
               : state == CowState::zero ? " is trimmed"
                                         : " is allocated");
    first += count;
  }
}

// Blocks that it changes in part are read and written; whole ones need not be read.
void log_change(const CowClient &client, const backend::Request &request, uint64_t first,
                uint64_t last) {
  const uint64_t end = request.offset + request.length_bytes;
  const auto is_part = [&](uint64_t block) {
    return client.blocks.begin_of(block) < request.offset || client.blocks.end_of(block) > end;
  };
  const bool has_head = is_part(first);
  const bool has_tail = last != first && is_part(last);
  if (has_head)
    log_found(client, "read", first, first);
  if (has_tail)
    log_found(client, "read", last, last);
  if (request.type == wire::NBD_CMD_WRITE) {
    log_blocks(client, "write", first, last - first + 1, "");
    return;
  }
  if (has_head)
    log_blocks(client, "write", first, 1, "");
  const uint64_t whole = first + (has_head ? 1 : 0);
  const uint64_t whole_end = last + (has_tail ? 0 : 1);
  if (whole < whole_end)
    log_blocks(client, "trim", whole, whole_end - whole, "");
  if (has_tail)
    log_blocks(client, "write", last, 1, "");
}

} // namespace

void log_request(const CowClient &client, const backend::Request &request) {
  if (request.length_bytes == 0)
    return;
  const host::ContextScope scope(&client.context);
  const uint64_t first = client.blocks.block_of(request.offset);
  const uint64_t last = client.blocks.block_of(request.offset + request.length_bytes - 1);
  if (request.type == wire::NBD_CMD_READ)
    log_found(client, "read", first, last);
  else if (request.type == wire::NBD_CMD_CACHE)
    log_found(client, "cache", first, last);
  else if (wire::is_change(request.type))
    log_change(client, request, first, last);
}

void log_copied(const CowClient &client, uint64_t first, uint64_t last) {
  const host::ContextScope scope(&client.context);
  host::log_debug("cow: saving %" PRIu64 " blocks at offset %" PRIu64 " into the overlay",
                  last - first + 1, client.blocks.begin_of(first));
}

} // namespace asyncnbd::filters
