// See turns.hpp.
#include "backend/turns.hpp"

#include <cerrno>
#include <utility>

namespace asyncnbd::backend {

Turns::Turns(std::unique_ptr<Backend> below, std::shared_ptr<TurnQueue> queue)
    : Layer(std::move(below)), queue_(std::move(queue)),
      answers_later_(thread_model() == ThreadModel::async) {}

void Turns::submit(Request &request, Caller caller) {
  if (!request.completers.push(*this)) {
    request.complete(ENOMEM);
    return;
  }
  const bool may_call = caller == Caller::may_block || answers_later_;
  if (may_call && queue_->try_begin())
    below().submit(request, caller);
  else
    queue_->wait_for_turn(*this, request);
}

// The turn ends first: from then on, this may be gone.
void Turns::complete(Request &request, int error) {
  request.completers.pop(*this);
  queue_->end();
  request.complete(error);
}

void Turns::give_up(Request &request, int error) {
  request.completers.pop(*this);
  queue_->end();
  request.give_up(error);
}

void Turns::give_up_unanswered() {
  for (Request *request : queue_->withdraw(*this)) {
    request->completers.pop(*this);
    request->complete(ESHUTDOWN);
  }
  Layer::give_up_unanswered();
}

void Turns::close() {
  queue_->wait_for_workers(*this);
  Layer::close();
}

} // namespace asyncnbd::backend
