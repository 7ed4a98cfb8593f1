// See cow_operation.hpp; cow_steps.cpp has what operations do.
#include "filters/cow_operation.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include "wire/constants.hpp"

namespace asyncnbd::filters {

using backend::Caller;
using backend::Request;

namespace {

// What a longer request would take, nobody can wait for; the specification allows to refuse it.
constexpr uint64_t MAX_COPIED_BYTES = UINT32_MAX;
constexpr uint64_t MAX_ZEROED_BYTES = uint64_t{1} << 47;

constexpr size_t MAX_FREE = 512; // few clients have more in flight all the time

} // namespace

// ---- from begin to end -------------------------------------------------------------------------

void CowOperation::begin(Request &request, bool copies, Caller caller) {
  request_ = &request;
  copies_ = copies;
  has_claim_ = false;
  has_child_ = false;
  context_ = 0;
  children_ = 0;
  first = client_.block_of(request.offset);
  last = client_.block_of(end_offset() - 1);
  if (const int error = refusal()) {
    finish(error);
    return;
  }
  has_claim_ = is_filling_ = is_change() || copies;
  at_ = is_filling_ ? first : request.offset;
  if (has_claim_ && !client_.disk.work->claim(*this))
    return; // another thread runs it, perhaps already
  if (caller == Caller::may_block)
    go_on(caller);
  else
    client_.disk.work->run_elsewhere(*this);
}

int CowOperation::refusal() const {
  const bool zeroes = is_change() && request_->type != wire::NBD_CMD_WRITE;
  const bool needs_space = zeroes && (request_->flags & wire::NBD_CMD_FLAG_NO_HOLE) != 0;
  if (needs_space && (request_->flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0)
    return ENOTSUP;
  if ((needs_space || copies_) && request_->length_bytes > MAX_COPIED_BYTES)
    return EINVAL;
  return zeroes && request_->length_bytes > MAX_ZEROED_BYTES ? EINVAL : 0;
}

void CowOperation::fail_waiting(int error) {
  has_claim_ = false;
  finish(error);
}

// On a thread that may block for as long as our own file takes. Once a child is submitted or the
// request completed, the operation may be another's.
void CowOperation::go_on(Caller caller) {
  int error = has_child_ ? take_child() : 0;
  if (error == 0 && client_.is_given_up.load(std::memory_order_relaxed))
    error = ESHUTDOWN;
  while (error == 0 && step(&error) == Next::child) {
    has_child_ = true;
    turn_.store(Turn::submitting, std::memory_order_relaxed);
    holders_.store(2, std::memory_order_relaxed);
    client_.below.submit(child_, caller);
    switch (turn_.exchange(Turn::submitted, std::memory_order_acq_rel)) {
    case Turn::completed:
      error = take_child();
      break;
    case Turn::given_up:
      finish_given_up();
      return;
    default:
      return;
    }
  }
  finish(error);
}

void CowOperation::finish(int error) {
  Request &request = *request_;
  if (has_claim_)
    client_.disk.work->release(*this);
  fill_.reset();
  child_.extras.reset();
  pool_.put(*this);
  request.complete(error);
}

// ---- its child ---------------------------------------------------------------------------------

void CowOperation::make_child(uint16_t type, uint64_t offset, uint64_t length_bytes,
                              uint8_t *data) {
  child_.completers.reset(*this);
  child_.type = type;
  child_.flags = 0;
  child_.offset = offset;
  child_.length_bytes = length_bytes;
  child_.data = data;
  child_.pages.reset();
  child_.may_answer_in_pages = false;
  child_.is_reserved = false;
  child_.may_have_holes = false;
  child_.data_until = 0;
  child_.answer = {};
  child_.extras.reset();
}

void CowOperation::complete(Request &child, int error) {
  child.take_answer(error);
  if (error != 0)
    keep_error(child);
  child_error_ = error;
  const bool is_last = child.type == wire::NBD_CMD_READ && !is_filling_ &&
                       child.offset + child.length_bytes == end_offset();
  if (turn_.exchange(Turn::completed, std::memory_order_acq_rel) != Turn::submitted)
    return;
  if (error != 0 || is_last)
    finish(error);
  else // nothing is submitted from here, nor may our own file keep this thread waiting
    client_.disk.work->run_elsewhere(*this);
}

// What the client is told; an offset only if it lies in what it has asked for.
void CowOperation::keep_error(Request &child) {
  if (!child.extras)
    return;
  if (!child.extras->error_text.empty())
    request_->make_extras().error_text = std::move(child.extras->error_text);
  const std::optional<uint64_t> &at = child.extras->error_offset;
  if (at && *at >= request_->offset && *at < end_offset())
    request_->make_extras().error_offset = at;
}

int CowOperation::take_child() {
  has_child_ = false;
  if (child_error_ != 0)
    return child_error_;
  if (child_.type == wire::NBD_CMD_BLOCK_STATUS)
    return take_status();
  if (is_filling_)
    return store_fill();
  at_ += child_.length_bytes;
  return 0;
}

void CowOperation::give_up(Request &, int error) {
  child_error_ = error;
  if (turn_.exchange(Turn::given_up, std::memory_order_acq_rel) == Turn::submitted)
    finish_given_up();
}

// What is below may go on writing where the child's data are: in the operation, or the request.
void CowOperation::finish_given_up() {
  Request &request = *request_;
  const int error = child_error_;
  if (has_claim_)
    client_.disk.work->release(*this);
  drop_holder();
  request.give_up(error);
}

void CowOperation::release(Request &) {
  Request &request = *request_;
  drop_holder();
  request.completers.maker().release(request);
}

void CowOperation::drop_holder() {
  if (holders_.fetch_sub(1, std::memory_order_acq_rel) > 1)
    return;
  fill_.reset();
  child_.extras.reset();
  pool_.put(*this);
}

bool CowOperation::client_has_gone() const {
  return request_->completers.maker().client_has_gone();
}

// ---- the pool ----------------------------------------------------------------------------------

CowOperation *CowOperations::get() {
  std::lock_guard lock(mutex_);
  if (free_ == nullptr)
    return slabs_.make(client_, *this);
  free_count_--;
  return std::exchange(free_, free_->next_free_);
}

void CowOperations::put(CowOperation &operation) {
  {
    std::lock_guard lock(mutex_);
    if (free_count_ < MAX_FREE) {
      operation.next_free_ = std::exchange(free_, &operation);
      free_count_++;
      return;
    }
  }
  CowOperationSlabs::destroy(&operation);
}

void CowOperations::trim() {
  std::lock_guard lock(mutex_);
  while (free_ != nullptr)
    CowOperationSlabs::destroy(std::exchange(free_, free_->next_free_));
  free_count_ = 0;
}

} // namespace asyncnbd::filters
