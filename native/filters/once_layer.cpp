// See once_layer.hpp.
#include "filters/once_layer.hpp"

#include <cerrno>
#include <chrono>
#include <mutex>
#include <utility>

#include "backend/timely_close.hpp"
#include "base/invariant.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

using backend::Request;

// ---- for all ------------------------------------------------------------------------------------

void OnceOpened::close() {
  backend::give_up_all(*backend_, in_flight_);
  backend::close_in_time(*backend_, resources_, std::chrono::milliseconds{0});
}

// ---- a request ----------------------------------------------------------------------------------

OnceRequest::OnceRequest(OnceLayer &layer, Request &request)
    : layer_(layer), opened_(layer.opened_), request_(request) {
  child_.completers.reset(*this);
  child_.type = request.type;
  child_.flags = request.flags;
  child_.offset = request.offset;
  child_.length_bytes = request.length_bytes;
  child_.may_answer_in_pages = request.may_answer_in_pages;
  child_.may_have_holes = request.may_have_holes;
  child_.extras = std::move(request.extras);
  if (request.type == wire::NBD_CMD_WRITE) {
    child_.take_payload(request);
    return;
  }
  child_.data = request.data;
  child_.is_reserved = request.is_reserved;
  child_.answer = std::exchange(request.answer, {});
}

// This object may be gone afterwards.
void OnceRequest::submit(backend::Caller caller) {
  opened_->in_flight_.fetch_add(1, std::memory_order_relaxed);
  opened_->backend().submit(child_, caller);
}

// For a request that the client still waits for.
void OnceRequest::hand_over_answer() {
  request_.extras = std::move(child_.extras);
  if (request_.type != wire::NBD_CMD_READ)
    return;
  request_.answer = std::exchange(child_.answer, {});
  request_.pages = std::move(child_.pages);
  request_.data_until = child_.data_until;
}

// The client's request is completed last: everything in front may go with it.
void OnceRequest::complete(Request &, int error) {
  Request &request = request_;
  const std::shared_ptr<OnceOpened> opened = opened_;
  const bool is_awaited = layer_.end(*this, false);
  if (is_awaited)
    hand_over_answer();
  else
    child_.answer.give_back_data();
  OnceLayer::Slabs::destroy(this);
  opened->in_flight_.fetch_sub(1, std::memory_order_release);
  if (is_awaited)
    request.complete(error);
  else
    request.completers.maker().release(request);
}

// The late reply may come meanwhile.
void OnceRequest::give_up(Request &, int error) {
  const std::shared_ptr<OnceOpened> opened = opened_;
  const bool is_awaited = layer_.end(*this, true);
  opened->in_flight_.fetch_sub(1, std::memory_order_release);
  if (is_awaited)
    request_.give_up(error);
  drop();
}

void OnceRequest::release(Request &) {
  const std::shared_ptr<OnceOpened> opened = opened_; // keeps it during this call
  drop();
}

// Called by both holders, in any order: the client's request keeps the layer until it is released.
void OnceRequest::drop() {
  const int holders = holders_.fetch_sub(1, std::memory_order_acq_rel);
  base::invariant(holders > 0, "a request of openonce is dropped by those that hold it");
  if (holders > 1)
    return;
  Request &request = request_;
  OnceLayer::Slabs::destroy(this);
  request.completers.maker().release(request);
}

bool OnceRequest::client_has_gone() const {
  return request_.completers.maker().client_has_gone();
}

// ---- for one client -----------------------------------------------------------------------------

bool OnceLayer::collect(const backend::Wanted &, backend::Facts *facts, std::string *) {
  *facts = opened_->backend().facts();
  facts->call_limits = {};
  // A client's requests may be given up while they are in progress, whatever the backend is.
  facts->thread_model = backend::ThreadModel::async;
  return true;
}

void OnceLayer::submit(Request &request, backend::Caller caller) {
  OnceRequest *one = slabs_.make(*this, request);
  if (one == nullptr) {
    if (request.is_reserved && request.type == wire::NBD_CMD_WRITE)
      unreserve(request);
    request.complete(ENOMEM);
    return;
  }
  link(*one);
  one->submit(caller);
}

void OnceLayer::link(OnceRequest &one) {
  std::lock_guard lock(mutex_);
  one.next_ = std::exchange(first_, &one);
  if (one.next_ != nullptr)
    one.next_->previous_ = &one;
}

// Call it with the lock held.
void OnceLayer::unlink(OnceRequest &one) {
  (one.previous_ == nullptr ? first_ : one.previous_->next_) = one.next_;
  if (one.next_ != nullptr)
    one.next_->previous_ = one.previous_;
}

// False: it has been given up, so the client has its answer.
bool OnceLayer::end(OnceRequest &one, bool gives_up) {
  std::lock_guard lock(mutex_);
  if (one.is_given_up_)
    return false;
  one.is_given_up_ = gives_up;
  unlink(one);
  return true;
}

// Gives up only this client's requests. The shared backend goes on, and releases them when it has
// finished.
void OnceLayer::give_up_unanswered() {
  for (;;) {
    Request *request;
    {
      std::lock_guard lock(mutex_);
      if (first_ == nullptr)
        return;
      OnceRequest &one = *first_;
      one.is_given_up_ = true;
      unlink(one);
      request = &one.request_;
    }
    request->give_up(ESHUTDOWN);
  }
}

} // namespace asyncnbd::filters
