// How the operations of cache_operation.hpp make room for blocks that are kept from now on: others,
// which nobody has used for long, are written back and dropped.
#include "base/invariant.hpp"
#include "filters/cache_operation.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "filters/cache_debug.hpp"
#include "filters/debug_flags.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

CacheOperation::Step CacheOperation::make_room(int *error) {
  if (written_) { // and is not durable yet
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

// As long as room is short. Beyond what the request takes itself, only where there is none at all.
bool CacheOperation::may_take_room(uint64_t more) {
  constexpr unsigned MAX_FAILURES = 64;
  return is_short_of_room(more) && (may_drop_ > 0 || disk_.room.is_full(more)) &&
         room_failures_ < MAX_FAILURES;
}

// True: it is being written back before it can go.
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

// Waits for no claim: two operations that hold one each could wait for each other.
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
      unused_.last = *found; // the others are somebody's, perhaps
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

// Or an error: the block cannot be written back.
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

// Another one may go instead; the hand comes back to this one later than to others.
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
    return 0; // it is flushed next
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

// A read goes on without keeping what it reads.
int CacheOperation::without_keeping(int error) {
  if (!is(wire::NBD_CMD_READ))
    return error;
  keeps_ = false;
  stage_ = Stage::work;
  return 0;
}

// What only reads or caches goes on without keeping it. A change fails if a block could not be
// written back; if blocks are only in use, it goes beyond the limit.
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
