// See blocksize_operation.hpp.
#include "filters/blocksize_operation.hpp"
#include "wire/commands.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace asyncnbd::filters {

using backend::Caller;
using backend::ContextStatus;
using backend::Extent;
using backend::Request;
using backend::Support;

namespace {

// A range with more pieces, which is longer than any in nbdkit, would take too long; the
// specification allows us to refuse it.
constexpr uint64_t MAX_PIECES = 65536;

} // namespace

void BlocksizeOperation::begin(Request &request, Caller caller) {
  SteppedRequest::begin(request);
  stage_ = Stage::piece;
  has_child_ = has_claim_ = is_counted_ = has_made_child_ = false;
  has_reservation_ = request.type == wire::NBD_CMD_WRITE && request.is_reserved;
  context_ = 0;
  known_.clear();
  needs_flush_ = (request.flags & wire::NBD_CMD_FLAG_FUA) != 0 &&
                 client_.below.facts().fua == Support::emulate;
  set_range();
  if (const int error = refusal()) {
    end(error);
    return;
  }
  if (wire::is_change(request.type) && client_.limits.block > 1 && !begin_change())
    return; // another thread runs it, perhaps already
  go_on(caller);
}

// For a trim, only whole blocks count; for a cache request, every block that is touched.
void BlocksizeOperation::set_range() {
  const BlocksizeLimits &limits = client_.limits;
  at_ = request().offset;
  end_ = end_offset();
  if (request().type == wire::NBD_CMD_TRIM) {
    end_ = limits.round_down(end_);
    at_ = std::min(limits.round_up(at_), end_);
  } else if (request().type == wire::NBD_CMD_CACHE) {
    at_ = limits.round_down(at_);
    end_ = limits.round_up(end_);
  }
}

int BlocksizeOperation::refusal() const {
  const uint64_t most = request().type == wire::NBD_CMD_CACHE ? client_.limits.data //
                                                              : client_.limits.length;
  const bool is_divided = request().type != wire::NBD_CMD_BLOCK_STATUS;
  if (!is_divided || request().length_bytes <= UINT32_MAX || (end_ - at_) / most < MAX_PIECES)
    return 0;
  request().make_extras().error_text = "the range is too long for filter blocksize";
  return EINVAL;
}

// False: it waits for other changes of the same blocks.
bool BlocksizeOperation::begin_change() {
  if (at_ == end_)
    return true; // an empty trim
  const BlocksizeLimits &limits = client_.limits;
  if (!limits.are_whole_blocks(at_, end_)) {
    client_.disk.stop_counting();
  } else if (client_.disk.begin_counted()) {
    is_counted_ = true;
    return true;
  }
  first = limits.round_down(at_);
  last = limits.round_up(end_) - 1;
  has_claim_ = true;
  return client_.disk.work->claim(*this);
}

// ---- its steps ---------------------------------------------------------------------------------

BlocksizeOperation::Next BlocksizeOperation::advance(int *error) {
  if (has_child_ && *error == 0)
    *error = take_child();
  has_child_ = false;
  if (*error == 0 && is_to_stop())
    *error = ESHUTDOWN;
  if (*error != 0)
    return Next::end;
  const Next next = step(error);
  has_child_ = next == Next::child;
  return next;
}

BlocksizeOperation::Next BlocksizeOperation::step(int *error) {
  if (request().type == wire::NBD_CMD_BLOCK_STATUS)
    return make_status();
  const BlocksizeLimits &limits = client_.limits;
  if (stage_ == Stage::block_write) {
    make_child(wire::NBD_CMD_WRITE, flags_of(wire::NBD_CMD_WRITE), limits.round_down(at_),
               limits.block, block_.get());
    return Next::child;
  }
  if (at_ == end_)
    return needs_flush_ && stage_ != Stage::flush ? make_flush() : Next::end;
  const bool is_part = at_ != limits.round_down(at_) || end_ - at_ < limits.block;
  return is_part ? make_block_read(error) : make_piece();
}

BlocksizeOperation::Next BlocksizeOperation::make_piece() {
  const uint16_t type = request().type;
  const bool has_data = type == wire::NBD_CMD_READ || type == wire::NBD_CMD_WRITE;
  const BlocksizeLimits &limits = client_.limits;
  const uint64_t most = has_data || type == wire::NBD_CMD_CACHE ? limits.data : limits.length;
  piece_bytes_ = std::min(most, limits.round_down(end_ - at_));
  stage_ = Stage::piece;
  if (type == wire::NBD_CMD_WRITE && piece_bytes_ == request().length_bytes) {
    make_child(type, flags_of(type), at_, piece_bytes_, nullptr);
    child().take_payload(request()); // perhaps in pages
    has_reservation_ = false;
  } else {
    make_child(type, flags_of(type), at_, piece_bytes_, has_data ? data_here() : nullptr);
  }
  return Next::child;
}

BlocksizeOperation::Next BlocksizeOperation::make_block_read(int *error) {
  const BlocksizeLimits &limits = client_.limits;
  if (!block_)
    block_.reset(new (std::nothrow) uint8_t[limits.block]);
  if (!block_) {
    *error = ENOMEM;
    return Next::end;
  }
  const uint64_t block = limits.round_down(at_);
  piece_bytes_ = std::min(block + limits.block, end_) - at_;
  stage_ = Stage::block_read;
  make_child(wire::NBD_CMD_READ, 0, block, limits.block, block_.get());
  return Next::child;
}

BlocksizeOperation::Next BlocksizeOperation::make_flush() {
  stage_ = Stage::flush;
  make_child(wire::NBD_CMD_FLUSH, 0, 0, 0, nullptr);
  return Next::child;
}

// If the backend below emulates FUA by a flush, one at the end is enough.
uint16_t BlocksizeOperation::flags_of(uint16_t type) const {
  unsigned flags = wire::is_change(type) ? request().flags & wire::NBD_CMD_FLAG_FUA : 0;
  if (needs_flush_)
    flags = 0;
  if (type == wire::NBD_CMD_WRITE_ZEROES)
    flags |= request().flags & (wire::NBD_CMD_FLAG_NO_HOLE | wire::NBD_CMD_FLAG_FAST_ZERO);
  return static_cast<uint16_t>(flags);
}

int BlocksizeOperation::take_child() {
  if (request().type == wire::NBD_CMD_BLOCK_STATUS)
    return take_status();
  if (stage_ == Stage::block_read) {
    take_block();
  } else if (stage_ != Stage::flush) {
    at_ += piece_bytes_;
    stage_ = Stage::piece;
  }
  return 0;
}

// Takes the request's part of the block that has been read.
void BlocksizeOperation::take_block() {
  uint8_t *part = block_.get() + (at_ & (client_.limits.block - 1));
  if (request().type == wire::NBD_CMD_READ) {
    std::memcpy(data_here(), part, piece_bytes_);
    at_ += piece_bytes_;
    stage_ = Stage::piece;
    return;
  }
  if (request().type == wire::NBD_CMD_WRITE)
    std::memcpy(part, data_here(), piece_bytes_);
  else
    std::memset(part, 0, piece_bytes_);
  stage_ = Stage::block_write;
}

// Looks at once whether the request is over. The next call must not be made from inside a
// completion.
void BlocksizeOperation::on_answered_later() {
  int error = child_error();
  if (advance(&error) == Next::end) {
    end(error);
    return;
  }
  has_made_child_ = true;
  client_.disk.work->run_elsewhere(*this);
}

void BlocksizeOperation::run() {
  if (std::exchange(has_made_child_, false))
    SteppedRequest::run(Next::child, 0, Caller::must_not_block);
  else
    go_on(Caller::must_not_block);
}

void BlocksizeOperation::before_end(int error) {
  const bool is_known = error != 0 && at_ > request().offset && at_ < end_offset();
  if (is_known && (!request().extras || !request().extras->error_offset))
    request().make_extras().error_offset = at_;
  if (has_reservation_)
    client_.below.unreserve(request());
  if (has_claim_)
    client_.disk.work->release(*this);
  if (is_counted_)
    client_.disk.end_counted();
}

// ---- extents -----------------------------------------------------------------------------------

// Asks about one context at a time, in whole blocks. If the first extent ends inside a block, asks
// about the rest of the block.
BlocksizeOperation::Next BlocksizeOperation::make_status() {
  if (context_ == request().extras->statuses.size())
    return Next::end;
  const BlocksizeLimits &limits = client_.limits;
  const ContextStatus &status = request().extras->statuses[context_];
  const uint64_t begin = limits.round_down(request().offset);
  const uint64_t known = known_bytes();
  unsigned flags = request().flags;
  uint64_t bytes = std::min(limits.round_up(request().length_bytes), limits.length);
  if (known > 0) {
    flags &= ~unsigned{wire::NBD_CMD_FLAG_REQ_ONE};
    bytes = limits.block - known;
  }
  make_child(wire::NBD_CMD_BLOCK_STATUS, static_cast<uint16_t>(flags), begin + known, bytes,
             nullptr);
  child().make_extras().statuses.push_back({status.id, status.context, {}});
  return Next::child;
}

uint64_t BlocksizeOperation::known_bytes() const {
  uint64_t bytes = 0;
  for (const Extent &extent : known_)
    bytes += extent.length_bytes;
  return bytes;
}

int BlocksizeOperation::take_status() {
  const BlocksizeLimits &limits = client_.limits;
  ContextStatus &status = request().extras->statuses[context_];
  const uint64_t begin = limits.round_down(request().offset);
  const uint64_t known = known_bytes();
  std::vector<Extent> &told = child().extras->statuses.front().extents;
  backend::cut_extents(told,
                       known > 0 ? limits.block - known : limits.round_up(end_offset()) - begin);
  if (told.empty())
    return EINVAL;
  for (const Extent &extent : told)
    append_extent(known_, extent.length_bytes, extent.flags);
  uint64_t before_bytes = request().offset - begin; // not asked for by the client
  const bool is_allocation = status.context == ContextStatus::ALLOCATION;
  if (is_allocation ? !align_known() : known_bytes() <= before_bytes)
    return 0;
  for (const Extent &extent : known_) {
    const uint64_t left_out = std::min(before_bytes, extent.length_bytes);
    before_bytes -= left_out;
    append_extent(status.extents, extent.length_bytes - left_out, extent.flags);
  }
  known_.clear();
  context_++;
  return 0;
}

// Extents are reported up to the first that does not end with a block. If the first block itself
// has several extents, it gets the flags that hold for all of it, and nothing follows. False: the
// block's end is not known yet.
bool BlocksizeOperation::align_known() {
  const uint64_t block = client_.limits.block;
  if (known_.front().length_bytes < block) {
    uint64_t bytes = 0;
    uint64_t flags = UINT64_MAX;
    for (size_t i = 0; i < known_.size() && bytes < block; i++) {
      bytes += known_[i].length_bytes;
      flags &= known_[i].flags;
    }
    if (bytes < block)
      return false;
    known_ = {{block, flags}};
    return true;
  }
  for (size_t i = 0; i < known_.size(); i++) {
    const uint64_t whole = client_.limits.round_down(known_[i].length_bytes);
    if (whole == known_[i].length_bytes)
      continue;
    known_[i].length_bytes = whole;
    known_.resize(whole > 0 ? i + 1 : i);
    break;
  }
  return true;
}

} // namespace asyncnbd::filters
