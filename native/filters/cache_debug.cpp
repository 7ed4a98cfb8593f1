// See cache_debug.hpp.
#include "filters/cache_debug.hpp"

#include <cinttypes>

#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

namespace {

void log_run(const CacheClient &client, const char *what, uint64_t first, uint64_t count,
             const char *how) {
  host::log_debug("cache: %s block %" PRIu64 " (offset %" PRIu64 ") run of length %" PRIu64 "%s",
                  what, first, client.disk.blocks.begin_of(first), count, how);
}

const char *words_of(CacheState state, bool tells_dirty) {
  if (state == CacheState::below)
    return " is not cached";
  if (!tells_dirty)
    return " is cached";
  return state == CacheState::clean ? " is clean" : " is dirty";
}

// One line for each run of blocks in the same state.
void log_found(const CacheClient &client, const char *what, uint64_t first, uint64_t last) {
  const bool tells_dirty = what[0] == 'c';
  while (first <= last) {
    CacheState state;
    const uint64_t count = client.disk.run(first, last, &state);
    log_run(client, what, first, count, words_of(state, tells_dirty));
    first += count;
  }
}

// Blocks that it changes in part are read; written-through blocks are logged when they are written.
void log_change(const CacheClient &client, const backend::Request &request, uint64_t first,
                uint64_t last) {
  const Blocks &blocks = client.disk.blocks;
  const uint64_t end = request.offset + request.length_bytes;
  const auto is_part = [&](uint64_t block) {
    return blocks.begin_of(block) < request.offset || blocks.end_of(block) > end;
  };
  if (is_part(first))
    log_found(client, "read", first, first);
  if (last != first && is_part(last))
    log_found(client, "read", last, last);
  if (!client.writes_through(request.flags))
    log_run(client, "writeback", first, last - first + 1, "");
}

} // namespace

void log_request(const CacheClient &client, const backend::Request &request) {
  if (request.length_bytes == 0)
    return;
  const host::ContextScope scope(&client.context);
  const uint64_t first = client.disk.blocks.block_of(request.offset);
  const uint64_t last = client.disk.blocks.block_of(request.offset + request.length_bytes - 1);
  const bool is_fast = (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
  if (request.type == wire::NBD_CMD_READ)
    log_found(client, "read", first, last);
  else if (request.type == wire::NBD_CMD_CACHE)
    log_found(client, "cache", first, last);
  else if (request.type == wire::NBD_CMD_WRITE ||
           (request.type == wire::NBD_CMD_WRITE_ZEROES && !is_fast)) // a fast zero is refused
    log_change(client, request, first, last);
}

void log_blocks(const CacheClient &client, const char *what, uint64_t first, uint64_t last) {
  const host::ContextScope scope(&client.context);
  log_run(client, what, first, last - first + 1, "");
}

void log_reclaiming(const CacheClient &client, bool begins) {
  const host::ContextScope scope(&client.context);
  host::log_debug("cache: %s reclaiming", begins ? "start" : "stop");
}

} // namespace asyncnbd::filters
