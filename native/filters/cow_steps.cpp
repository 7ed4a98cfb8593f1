// The steps of the operations of cow_operation.hpp.
#include "filters/cow_operation.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "backend/sparse.hpp"
#include "filters/cow_debug.hpp"
#include "filters/debug_flags.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

CowOperation::Next CowOperation::step(int *error) {
  if (is_filling_) {
    if (fill_step(error) == Next::child)
      return Next::child;
    if (*error != 0)
      return Next::end;
    is_filling_ = false;
    at_ = request().offset;
  }
  if (request().type == wire::NBD_CMD_READ)
    return read_step(error);
  if (request().type == wire::NBD_CMD_BLOCK_STATUS)
    return status_step(error);
  if (request().type == wire::NBD_CMD_WRITE)
    *error = write();
  else if (wire::is_change(request().type))
    return zero_step(error);
  return Next::end;
}

CowOperation::Next CowOperation::read_step(int *error) {
  CowDisk &disk = client_.disk;
  while (at_ < end_offset()) {
    CowState state;
    const uint64_t block = client_.blocks.block_of(at_);
    const uint64_t blocks = disk.run(block, last, &state);
    const uint64_t bytes = std::min(end_offset(), client_.blocks.end_of(block + blocks - 1)) - at_;
    uint8_t *data = request().data + (at_ - request().offset);
    if (state == CowState::below) {
      make_child(wire::NBD_CMD_READ, 0, at_, bytes, data);
      return Next::child;
    }
    if (state == CowState::zero)
      memset(data, 0, bytes);
    else if ((*error = disk.file->read(data, bytes, at_)) != 0)
      return Next::end;
    at_ += bytes;
  }
  return Next::end;
}

CowOperation::Next CowOperation::status_step(int *) {
  auto known = [this](uint64_t block, uint64_t last_block) {
    CowState state;
    const uint64_t blocks = client_.disk.run(block, last_block, &state);
    if (state == CowState::below && client_.below.facts().can_extents)
      return BlockStatus::Known{blocks, std::nullopt};
    return BlockStatus::Known{blocks, state == CowState::zero ? backend::HOLE_AND_ZERO : 0};
  };
  return ask_status(client_.blocks, known);
}

// ---- blocks that are copied before the request can do its part ---------------------------------

// Goes to the next block that must be copied.
CowOperation::Next CowOperation::fill_step(int *error) {
  CowDisk &disk = client_.disk;
  while (at_ <= last) {
    CowState state;
    const uint64_t blocks = disk.run(at_, last, &state);
    if (copies_ && state != CowState::below) {
      at_ += blocks;
      continue;
    }
    if (copies_)
      return begin_fill(
          at_, std::min(blocks, client_.settings.fill_bytes() / client_.settings.block_bytes),
          error);
    if (is_to_fill(at_, state)) {
      if (state == CowState::below)
        return begin_fill(at_, 1, error);
      if ((*error = fill_with_zeroes(at_)) != 0)
        return Next::end;
    }
    at_ = next_candidate(at_);
  }
  return Next::end;
}

// For a block at the edge of a change: the rest of the block must be kept.
bool CowOperation::is_to_fill(uint64_t block, CowState state) const {
  if (state == CowState::copied || !is_covered_in_part(block))
    return false;
  return state == CowState::below || request().type == wire::NBD_CMD_WRITE;
}

bool CowOperation::is_covered_in_part(uint64_t block) const {
  return client_.blocks.begin_of(block) < request().offset ||
         client_.blocks.end_of(block) > end_offset();
}

uint64_t CowOperation::next_candidate(uint64_t block) const {
  return block == last ? last + 1 : last;
}

CowOperation::Next CowOperation::begin_fill(uint64_t block, uint64_t count, int *error) {
  if (!fill_)
    fill_.reset(
        new (std::nothrow)
            uint8_t[copies_ ? client_.settings.fill_bytes() : client_.settings.block_bytes]);
  if (!fill_) {
    *error = ENOMEM;
    return Next::end;
  }
  fill_last_ = block + count - 1;
  make_child(wire::NBD_CMD_READ, 0, client_.blocks.begin_of(block),
             client_.blocks.end_of(fill_last_) - client_.blocks.begin_of(block), fill_.get());
  return Next::child;
}

int CowOperation::store_fill() {
  CowDisk &disk = client_.disk;
  if (const int error = disk.file->write(fill_.get(), child().length_bytes, child().offset))
    return error;
  if (!disk.set(at_, fill_last_, CowState::copied))
    return ENOMEM;
  if (copies_ && debug::cow_verbose.is_on())
    log_copied(client_, at_, fill_last_);
  at_ = copies_ ? fill_last_ + 1 : next_candidate(at_);
  return 0;
}

// The file may still have data there from a write that came too late.
int CowOperation::fill_with_zeroes(uint64_t block) {
  CowDisk &disk = client_.disk;
  if (const int error =
          disk.file->write_zeroes(client_.blocks.end_of(block) - client_.blocks.begin_of(block),
                                  client_.blocks.begin_of(block)))
    return error;
  return disk.set(block, block, CowState::copied) ? 0 : ENOMEM;
}

// ---- changes, where all blocks at the edges have been copied -----------------------------------

int CowOperation::write() {
  CowDisk &disk = client_.disk;
  const uint64_t bytes = request().length_bytes;
  if (const int error = request().pages ? disk.file->write_pages(std::move(request().pages), bytes,
                                                                 request().offset)
                                        : disk.file->write(request().data, bytes, request().offset))
    return error;
  return disk.set(first, last, CowState::copied) ? 0 : ENOMEM;
}

bool CowOperation::keeps_space() const {
  return request().type == wire::NBD_CMD_WRITE_ZEROES &&
         (request().flags & wire::NBD_CMD_FLAG_NO_HOLE) != 0;
}

// Writing zeroes takes longer than making a hole.
CowOperation::Next CowOperation::zero_step(int *error) {
  constexpr uint64_t HOLES_BYTES = uint64_t{16} << 30;
  while (at_ < end_offset()) {
    const uint64_t most_bytes = keeps_space() ? client_.settings.fill_bytes() : HOLES_BYTES;
    const uint64_t blocks = most_bytes / client_.blocks.block_bytes;
    const uint64_t end =
        std::min(end_offset(), client_.blocks.begin_of(client_.blocks.block_of(at_) + blocks));
    if ((*error = zero(end)) != 0)
      return Next::end;
    const uint64_t bytes = end - at_;
    at_ = end;
    if (at_ < end_offset() && is_long_work(bytes)) {
      client_.disk.work->run_elsewhere(*this);
      return Next::elsewhere;
    }
  }
  return Next::end;
}

// Zeroes from `at_` to `end`; each is an end of the request or the beginning of a block.
int CowOperation::zero(uint64_t end) {
  const uint64_t first_block = client_.blocks.block_of(at_);
  const uint64_t last_block = client_.blocks.block_of(end - 1);
  const bool has_head = is_covered_in_part(first_block);
  const bool has_tail = last_block != first_block && is_covered_in_part(last_block);
  if (has_head)
    if (const int error = zero_part(first_block))
      return error;
  if (has_tail)
    if (const int error = zero_part(last_block))
      return error;
  return zero_whole(first_block + (has_head ? 1 : 0), last_block + (has_tail ? 0 : 1));
}

int CowOperation::zero_whole(uint64_t first_block, uint64_t end_block) {
  if (first_block >= end_block)
    return 0;
  CowDisk &disk = client_.disk;
  const uint64_t offset = client_.blocks.begin_of(first_block);
  const uint64_t bytes = client_.blocks.end_of(end_block - 1) - offset;
  if (keeps_space()) {
    if (const int error = disk.file->write_zeroes(bytes, offset))
      return error;
    return disk.set(first_block, end_block - 1, CowState::copied) ? 0 : ENOMEM;
  }
  if (!disk.set(first_block, end_block - 1, CowState::zero))
    return ENOMEM;
  disk.file->discard(bytes, offset);
  return 0;
}

int CowOperation::zero_part(uint64_t block) {
  if (client_.disk.state(block) != CowState::copied)
    return 0; // already zero
  const uint64_t begin = std::max(client_.blocks.begin_of(block), request().offset);
  const uint64_t end = std::min(client_.blocks.end_of(block), end_offset());
  return client_.disk.file->write_zeroes(end - begin, begin);
}

} // namespace asyncnbd::filters
