// See cow_operation.hpp; cow_steps.cpp has the steps.
#include "filters/cow_operation.hpp"
#include "wire/commands.hpp"

#include <cerrno>
#include <utility>

namespace asyncnbd::filters {

using backend::Caller;
using backend::Request;

namespace {

// A longer request would take too long; the specification allows us to refuse it.
constexpr uint64_t MAX_COPIED_BYTES = UINT32_MAX;
constexpr uint64_t MAX_ZEROED_BYTES = uint64_t{1} << 47;

} // namespace

void CowOperation::begin(Request &request, bool copies, Caller caller) {
  SteppedRequest::begin(request);
  copies_ = copies;
  has_claim_ = false;
  has_child_ = false;
  worked_bytes_ = 0;
  status_.begin(request.offset);
  first = client_.blocks.block_of(request.offset);
  last = client_.blocks.block_of(end_offset() - 1);
  if (const int error = refusal()) {
    end(error);
    return;
  }
  has_claim_ = is_filling_ = wire::is_change(request.type) || copies;
  at_ = is_filling_ ? first : request.offset;
  if (has_claim_ && !client_.disk.work->claim(*this))
    return; // another thread runs it, perhaps already
  if (caller == Caller::may_block)
    go_on(caller);
  else
    client_.disk.work->run_elsewhere(*this);
}

int CowOperation::refusal() const {
  const bool zeroes = wire::is_change(request().type) && request().type != wire::NBD_CMD_WRITE;
  const bool needs_space = zeroes && (request().flags & wire::NBD_CMD_FLAG_NO_HOLE) != 0;
  if (needs_space && (request().flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0)
    return ENOTSUP;
  if ((needs_space || copies_) && request().length_bytes > MAX_COPIED_BYTES)
    return EINVAL;
  return zeroes && request().length_bytes > MAX_ZEROED_BYTES ? EINVAL : 0;
}

CowOperation::Next CowOperation::advance(int *error) {
  if (has_child_ && *error == 0)
    *error = take_child();
  has_child_ = false;
  if (*error == 0 && is_to_stop())
    *error = ESHUTDOWN;
  const Next next = *error == 0 ? step(error) : Next::end;
  if (next == Next::child) // otherwise it may continue elsewhere, and must not be touched
    has_child_ = true;
  return next;
}

void CowOperation::on_answered_later() {
  const Request &read = child();
  const bool is_last = read.type == wire::NBD_CMD_READ && !is_filling_ &&
                       read.offset + read.length_bytes == end_offset();
  if (child_error() != 0 || is_last)
    end(child_error());
  else // must not submit anything from here, nor wait for our own file
    client_.disk.work->run_elsewhere(*this);
}

void CowOperation::before_end(int) {
  if (has_claim_)
    client_.disk.work->release(*this);
}

void CowOperation::recycle() {
  fill_.reset();
  pool_.put(*this);
}

int CowOperation::take_child() {
  if (child().type == wire::NBD_CMD_BLOCK_STATUS)
    return status_.take(request(), child());
  if (is_filling_)
    return store_fill();
  at_ += child().length_bytes;
  return 0;
}

} // namespace asyncnbd::filters
