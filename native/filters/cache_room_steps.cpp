// How the operations of cache_operation.hpp make room for new blocks: they write back and drop
// others that have not been used for long.
#include "base/invariant.hpp"
#include "filters/cache_operation.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "filters/cache_debug.hpp"
#include "filters/debug_flags.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

CacheOperation::Step CacheOperation::make_room(int *error) {
  if (written_) { // not durable yet
    make_child(wire::NBD_CMD_FLUSH, 0, 0, 0, nullptr);
    return Next::child;
  }
  const uint64_t below = disk_.room.is_limited() ? disk_.count_below(first, last) : 0;
  const uint64_t more = keeps_all() || is_change() ? below : 0;
  if (below == 0)
    disk_.room.touch(first, last); // used again
  while (more > 0 && may_take_room(more) && take_unused()) {
    may_drop_ -= may_drop_ > 0 ? 1 : 0;
    if (give_up_unused())
      return Next::child;
  }
  stage_ = Stage::fill;
  if (more > 0 && disk_.room.is_full(more))
    *error = without_room();
  return std::nullopt;
}

// True as long as room is short. More blocks than the request adds are only dropped if there is no
// room at all.
bool CacheOperation::may_take_room(uint64_t more) {
  constexpr unsigned MAX_FAILURES = 64;
  return is_short_of_room(more) && (may_drop_ > 0 || disk_.room.is_full(more)) &&
         room_failures_ < MAX_FAILURES;
}

// True: it is being written back before it can be dropped.
bool CacheOperation::give_up_unused() {
  if (disk_.state(unused_.first) == CacheState::clean) {
    drop_unused();
    return false;
  }
  const int failed = begin_room_write();
  if (failed != 0)
    keep_unused(failed);
  return failed == 0;
}

bool CacheOperation::is_short_of_room(uint64_t more) {
  const bool was = disk_.room.is_reclaiming();
  const bool is = disk_.room.is_short(more);
  if (was != is && debug::cache_verbose.is_on())
    log_reclaiming(client_, is);
  return is;
}

// Does not wait for a claim: two operations with one claim each could wait for each other.
bool CacheOperation::take_unused() {
  constexpr unsigned MAX_TRIES = 16;
  for (unsigned i = 0; i < MAX_TRIES; i++) {
    const std::optional<uint64_t> found = disk_.find_unused();
    if (!found)
      return false;
    CacheState state;
    const uint64_t end = std::min(disk_.last_block(), *found + client_.piece_blocks() - 1);
    const uint64_t blocks = disk_.run(*found, end, &state);
    unused_.first = *found;
    unused_.last = *found + (state == CacheState::clean ? 1 : blocks) - 1;
    if (!disk_.work->try_claim(unused_)) {
      unused_.last = *found; // the others may be claimed
      if (!disk_.work->try_claim(unused_))
        continue;
    }
    if (disk_.state(*found) != CacheState::below) {
      has_unused_ = true;
      return true;
    }
    disk_.work->release(unused_);
  }
  return false;
}

// Returns an errno if the block cannot be written back.
int CacheOperation::begin_room_write() {
  if (!client_.below.facts().can_write)
    return EROFS;
  CacheState state;
  const uint64_t blocks = disk_.run(unused_.first, unused_.last, &state);
  return begin_write({unused_.first, unused_.first + blocks - 1}, client_.flags_for_room());
}

void CacheOperation::drop_unused() {
  base::invariant(has_unused_, "a block that cache drops is claimed");
  if (debug::cache_verbose.is_on())
    log_blocks(client_, "reclaiming", unused_.first, unused_.first);
  disk_.drop(unused_.first);
  has_unused_ = false;
  disk_.work->release(unused_);
}

// Another block may be dropped instead; the search returns to this one last.
void CacheOperation::keep_unused(int error) {
  base::invariant(has_unused_, "a block that cache keeps after all is claimed");
  if (written_)
    disk_.end_writing(written_->first, written_->last, false);
  written_.reset();
  disk_.room.touch(unused_.first, unused_.first);
  room_failures_++;
  room_error_ = error;
  has_unused_ = false;
  disk_.work->release(unused_);
}

int CacheOperation::take_room(int error) {
  if (error == 0 && child().type == wire::NBD_CMD_WRITE && client_.flushes_for_room())
    return 0; // its flush is next
  if (error != 0) {
    room_words_ = child().extras ? std::move(child().extras->error_text) : std::string();
    keep_unused(error);
    return 0;
  }
  disk_.end_writing(written_->first, written_->last, true);
  written_.reset();
  drop_unused();
  return 0;
}

// A read continues without keeping its data.
int CacheOperation::without_keeping(int error) {
  if (!is(wire::NBD_CMD_READ))
    return error;
  keeps_ = false;
  stage_ = Stage::work;
  return 0;
}

// Reads and cache requests continue without keeping data. A change fails if a block could not be
// written back; if blocks are only in use, it exceeds the limit.
int CacheOperation::without_room() {
  if (is_change()) {
    if (room_error_ != 0)
      request().make_extras().error_text = std::move(room_words_);
    return room_error_;
  }
  keeps_ = false;
  stage_ = Stage::work;
  return 0;
}

} // namespace asyncnbd::filters
