// The steps of the operations of cache_operation.hpp.
#include "base/invariant.hpp"
#include "filters/cache_operation.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "filters/cache_debug.hpp"
#include "filters/debug_flags.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

using backend::Request;
using backend::Support;

CacheOperation::Next CacheOperation::step(int *error) {
  if (is(wire::NBD_CMD_BLOCK_STATUS)) {
    const Next next = status_step();
    has_child_ = next == Next::child;
    return next;
  }
  for (;;) {
    const Step next = stage_step(error);
    if (!next && *error == 0)
      continue;
    if (next == Next::elsewhere)
      return Next::elsewhere;
    has_child_ = next == Next::child && *error == 0;
    return has_child_ ? Next::child : Next::end;
  }
}

CacheOperation::Step CacheOperation::stage_step(int *error) {
  switch (stage_) {
  case Stage::turn:
    return take_turn();
  case Stage::piece:
    return begin_piece();
  case Stage::room:
    return make_room(error);
  case Stage::fill:
    return fill(error);
  case Stage::work:
    return work(error);
  case Stage::write_back:
    return write_back(error);
  case Stage::last:
    return after_last_step(error);
  case Stage::settle:
    return settle(error);
  }
  return Next::end;
}

int CacheOperation::take_child(int error) {
  if (is(wire::NBD_CMD_BLOCK_STATUS))
    return error != 0 ? error : status_.take(request(), child());
  switch (stage_) {
  case Stage::room:
    return take_room(error);
  case Stage::fill:
    return take_fill(error);
  case Stage::write_back:
    return take_write_back(error);
  case Stage::work:
    at_ += child().length_bytes;
    return error;
  default:
    return error != 0 && first_error_ != 0 ? first_error_ : error;
  }
}

CacheOperation::Next CacheOperation::status_step() {
  auto known = [this](uint64_t block, uint64_t last_block) {
    CacheState state;
    const uint64_t blocks = disk_.run(block, last_block, &state);
    const bool is_below = (set_of(state) & UNWRITTEN) == 0 && client_.below.facts().can_extents;
    return BlockStatus::Known{blocks, is_below ? std::nullopt : std::optional<uint64_t>(0)};
  };
  return ask_status(disk_.blocks, known);
}

// ---- pieces ------------------------------------------------------------------------------------

// Flushes take turns: only a flush's own flush below is sure to make durable what it has written
// back, because a plugin's flush may be for one client alone; and the next flush depends on the
// result.
CacheOperation::Step CacheOperation::take_turn() {
  stage_ = Stage::piece;
  has_turn_ = true;
  if (disk_.flush_turns->claim(turn_))
    return std::nullopt;
  return Next::elsewhere;
}

CacheOperation::Step CacheOperation::begin_piece() {
  const bool is_flush = is(wire::NBD_CMD_FLUSH);
  // The claim waits for blocks that others are writing back.
  if (is(wire::NBD_CMD_TRIM) || !(is_flush ? find_piece_of(UNWRITTEN) : find_piece()))
    return last_step();
  cursor_ = first;
  may_drop_ = 2 * (last - first + 1);
  room_failures_ = 0;
  room_error_ = 0;
  const bool changes = !is(wire::NBD_CMD_READ) || keeps_ || disk_.room.is_limited();
  stage_ = changes ? is_flush ? Stage::write_back : Stage::room : Stage::work;
  return changes ? claim_piece() : std::nullopt;
}

CacheOperation::Step CacheOperation::claim_piece() {
  base::invariant(!has_claim_, "an operation of cache claims one piece at a time");
  has_claim_ = true;
  if (disk_.work->claim(*this))
    return std::nullopt;
  return Next::elsewhere;
}

// Data in pages cannot be divided, which is only needed if something is fetched or dropped.
bool CacheOperation::find_piece() {
  if (at_ == end_offset())
    return false;
  first = disk_.blocks.block_of(at_);
  const bool is_divided = keeps_all() || is(wire::NBD_CMD_WRITE_ZEROES) || disk_.room.is_limited();
  piece_end_ = is_divided
                   ? std::min(end_offset(), disk_.blocks.begin_of(first + client_.piece_blocks()))
                   : end_offset();
  last = disk_.blocks.block_of(piece_end_ - 1);
  return true;
}

// Finds the next blocks of the disk in one of these states.
bool CacheOperation::find_piece_of(unsigned states) {
  const auto found = disk_.find(at_, disk_.last_block(), states);
  if (!found)
    return false;
  CacheState state;
  const uint64_t blocks = disk_.run(*found, disk_.last_block(), &state);
  first = *found;
  last = first + std::min(blocks, client_.piece_blocks()) - 1;
  at_ = last + 1;
  return true;
}

CacheOperation::Step CacheOperation::end_piece() {
  if (has_claim_)
    disk_.work->release(*this);
  has_claim_ = false;
  stage_ = Stage::piece;
  if (is(wire::NBD_CMD_FLUSH))
    return std::nullopt;
  const uint64_t bytes = piece_end_ - at_;
  at_ = piece_end_;
  if (at_ == end_offset() || !is_long_work(bytes))
    return std::nullopt;
  disk_.work->run_elsewhere(*this);
  return Next::elsewhere;
}

CacheOperation::Step CacheOperation::last_step() {
  stage_ = Stage::last;
  if (!has_written_)
    end_turn(); // others need not wait for it
  if (is(wire::NBD_CMD_FLUSH))
    make_child(wire::NBD_CMD_FLUSH, 0, 0, 0, nullptr);
  else if (is(wire::NBD_CMD_TRIM))
    make_child(wire::NBD_CMD_TRIM, static_cast<uint16_t>(request().flags & ~wire::NBD_CMD_FLAG_FUA),
               request().offset, request().length_bytes, nullptr);
  else
    return std::nullopt;
  return Next::child;
}

CacheOperation::Step CacheOperation::after_last_step(int *error) {
  if (has_written_) {
    stage_ = Stage::settle;
    at_ = 0;
    return std::nullopt;
  }
  *error = first_error_;
  return Next::end;
}

// Its flush below has succeeded during its turn: it has itself written all blocks that are
// `writing` without a claim, before that flush.
CacheOperation::Step CacheOperation::settle(int *error) {
  if (has_claim_) {
    disk_.end_writing(first, last, true);
    disk_.work->release(*this);
    has_claim_ = false;
  }
  if (find_piece_of(set_of(CacheState::writing)))
    return claim_piece();
  *error = first_error_;
  return Next::end;
}

// ---- blocks that are fetched before the request can do its part --------------------------------

CacheOperation::Step CacheOperation::fill(int *error) {
  while (cursor_ <= last) {
    CacheState state;
    const uint64_t blocks = disk_.run(cursor_, last, &state);
    if (state != CacheState::below)
      cursor_ += blocks;
    else if (keeps_all())
      return begin_fill(cursor_, std::min(blocks, client_.piece_blocks()), error);
    else if (is_change() && is_covered_in_part(cursor_))
      return begin_fill(cursor_, 1, error);
    else // a change covers the other blocks, except perhaps the last
      cursor_ = cursor_ == last ? last + 1 : last;
  }
  stage_ = Stage::work;
  return std::nullopt;
}

CacheOperation::Step CacheOperation::begin_fill(uint64_t block, uint64_t count, int *error) {
  if (!has_buffer()) {
    *error = ENOMEM;
    return Next::end;
  }
  filled_ = {block, block + count - 1};
  const uint64_t begin = disk_.blocks.begin_of(block);
  make_child(wire::NBD_CMD_READ, 0, begin, disk_.blocks.end_of(filled_.last) - begin,
             buffer_.get());
  return Next::child;
}

int CacheOperation::take_fill(int error) {
  if (error != 0)
    return error;
  if (const int failed = disk_.file->write(buffer_.get(), child().length_bytes, child().offset))
    return without_keeping(failed);
  if (!disk_.keep(filled_.first, filled_.last, CacheState::clean))
    return without_keeping(ENOMEM);
  if (keeps_all() && debug::cache_verbose.is_on())
    log_blocks(client_, is(wire::NBD_CMD_READ) ? "cache-on-read" : "cache", filled_.first,
               filled_.last);
  cursor_ = filled_.last + 1;
  return 0;
}

// ---- the request's part ------------------------------------------------------------------------

CacheOperation::Step CacheOperation::work(int *error) {
  if (is(wire::NBD_CMD_READ))
    return read(error);
  if (is_change())
    return change(error);
  return end_piece(); // the piece is cached now
}

CacheOperation::Step CacheOperation::read(int *error) {
  while (at_ < piece_end_) {
    CacheState state;
    const uint64_t block = disk_.blocks.block_of(at_);
    const uint64_t blocks = disk_.run(block, last, &state);
    const uint64_t bytes = std::min(piece_end_, disk_.blocks.end_of(block + blocks - 1)) - at_;
    uint8_t *data = request().data + (at_ - request().offset);
    if (state == CacheState::below) {
      make_child(wire::NBD_CMD_READ, 0, at_, bytes, data);
      return Next::child;
    }
    if ((*error = disk_.file->read(data, bytes, at_)) != 0)
      return Next::end;
    at_ += bytes;
  }
  return end_piece();
}

// All blocks that it changes in part are kept by now.
CacheOperation::Step CacheOperation::change(int *error) {
  const uint64_t bytes = piece_end_ - at_;
  if (is(wire::NBD_CMD_WRITE))
    *error = disk_.write(request().data + (at_ - request().offset), std::move(request().pages),
                         bytes, at_);
  else
    *error = disk_.write_zeroes(bytes, at_);
  if (*error == 0 && !disk_.keep(first, last, CacheState::dirty))
    *error = ENOMEM;
  if (*error != 0)
    return Next::end;
  if (!client_.writes_through(request().flags))
    return end_piece();
  cursor_ = first;
  stage_ = Stage::write_back;
  return std::nullopt;
}

// ---- writing back ------------------------------------------------------------------------------

CacheOperation::Step CacheOperation::write_back(int *error) {
  while (const auto found = disk_.find(cursor_, last, UNWRITTEN)) {
    CacheState state;
    const uint64_t blocks = std::min(disk_.run(*found, last, &state), client_.piece_blocks());
    const int fua = is_change() ? request().flags & wire::NBD_CMD_FLAG_FUA : 0;
    const Range range{*found, *found + blocks - 1};
    cursor_ = range.last + 1;
    *error = begin_write(range, static_cast<uint16_t>(fua));
    if (*error == 0)
      return Next::child;
    if ((*error = take_write_back(*error)) != 0)
      return Next::end;
  }
  return end_piece();
}

// Writes back claimed blocks. Whether it succeeds or not, `written_` is the range that must be
// ended.
int CacheOperation::begin_write(Range range, uint16_t flags) {
  written_ = range; // also if this fails: an earlier flush may have left it `writing`
  if (!has_buffer())
    return ENOMEM;
  if (!disk_.begin_writing(range.first, range.last))
    return ENOMEM;
  const uint64_t begin = disk_.blocks.begin_of(range.first);
  const uint64_t bytes = disk_.blocks.end_of(range.last) - begin;
  if (const int error = disk_.file->read(buffer_.get(), bytes, begin))
    return error;
  if (debug::cache_verbose.is_on())
    log_blocks(client_, "writethrough", range.first, range.last);
  make_child(wire::NBD_CMD_WRITE, flags, begin, bytes, buffer_.get());
  return 0;
}

// A flush continues with the other blocks, and fails at its end. What it has written stays
// `writing` until that is flushed.
int CacheOperation::take_write_back(int error) {
  const bool is_flush = is(wire::NBD_CMD_FLUSH);
  if (written_ && (error != 0 || !is_flush))
    disk_.end_writing(written_->first, written_->last, error == 0);
  written_.reset();
  has_written_ = has_written_ || (error == 0 && is_flush);
  if (error == 0 || !is_flush)
    return error;
  if (first_error_ == 0) {
    first_error_ = error;
    if (has_child_ && child().extras)
      request().make_extras().error_text = std::move(child().extras->error_text);
  }
  return 0;
}

} // namespace asyncnbd::filters
