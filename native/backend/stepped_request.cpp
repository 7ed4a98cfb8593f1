// See stepped_request.hpp.
#include "backend/stepped_request.hpp"

#include <utility>

#include "wire/constants.hpp"

namespace asyncnbd::backend {

void SteppedRequest::make_child(uint16_t type, uint16_t flags, uint64_t offset,
                                uint64_t length_bytes, uint8_t *data) {
  child_.completers.reset(*this);
  child_.type = type;
  child_.flags = flags;
  child_.offset = offset;
  child_.length_bytes = length_bytes;
  child_.data = data;
  child_.pages.reset();
  child_.may_answer_in_pages = false;
  child_.is_reserved = false;
  child_.reservation = nullptr;
  child_.may_have_holes = false;
  child_.data_until = 0;
  child_.answer = {};
  child_.extras.reset();
}

// Once a child waits for its answer, the request has been completed, or another thread goes on,
// this object may serve another request.
void SteppedRequest::run(Next next, int error, Caller caller) {
  for (; next == Next::child; next = advance(&error)) {
    if (!submit_child(caller))
      return;
    error = child_error_;
  }
  if (next == Next::elsewhere)
    return;
  Request &request = *request_;
  Backend &below = below_;
  if (error != 0)
    keep_words();
  before_end(error);
  child_.extras.reset();
  recycle();
  if (next == Next::pass_on)
    below.submit(request, caller);
  else
    request.complete(error);
}

// False: the thread that answers it goes on.
bool SteppedRequest::submit_child(Caller caller) {
  turn_.store(Turn::submitting, std::memory_order_relaxed);
  holders_.store(2, std::memory_order_relaxed);
  below_.submit(child_, caller);
  const Turn turn = turn_.exchange(Turn::submitted, std::memory_order_acq_rel);
  if (turn == Turn::given_up)
    finish_given_up();
  return turn == Turn::completed;
}

void SteppedRequest::complete(Request &child, int error) {
  child.take_answer(error);
  child_error_ = error;
  if (turn_.exchange(Turn::completed, std::memory_order_acq_rel) == Turn::submitted)
    on_answered_later();
}

// Keeps the message for the client; its offset only if it lies in the client's range.
void SteppedRequest::keep_words() {
  if (!child_.extras)
    return;
  if (!child_.extras->error_text.empty())
    request_->make_extras().error_text = std::move(child_.extras->error_text);
  const std::optional<uint64_t> &at = child_.extras->error_offset;
  if (at && *at >= request_->offset && *at < end_offset())
    request_->make_extras().error_offset = at;
}

void SteppedRequest::give_up(Request &, int error) {
  child_error_ = error;
  if (turn_.exchange(Turn::given_up, std::memory_order_acq_rel) == Turn::submitted)
    finish_given_up();
}

// The backend below may go on writing to the child's data, which is here or in the request.
void SteppedRequest::finish_given_up() {
  Request &request = *request_;
  const int error = child_error_;
  before_end(error);
  drop_holder();
  request.give_up(error);
}

void SteppedRequest::release(Request &) {
  Request &request = *request_;
  drop_holder();
  request.completers.maker().release(request);
}

void SteppedRequest::drop_holder() {
  if (holders_.fetch_sub(1, std::memory_order_acq_rel) > 1)
    return;
  child_.extras.reset();
  recycle();
}

bool SteppedRequest::client_has_gone() const {
  return request_->completers.maker().client_has_gone();
}

} // namespace asyncnbd::backend
