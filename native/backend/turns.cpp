// See turns.hpp.
#include "backend/turns.hpp"

#include <cerrno>
#include <utility>

namespace asyncnbd::backend {

namespace {

class TurnsOfChain final : public Turns {
public:
  using Turns::Turns;
  Reservation reserve(Request &) override { return {}; }

private:
  bool collect(const Wanted &wanted, Facts *facts, std::string *error) override {
    const std::unique_lock<TurnQueue> lock = turn_of_call();
    return PassingLayer::collect(wanted, facts, error);
  }
};

} // namespace

std::unique_ptr<Backend> put_in_turns(std::unique_ptr<Backend> below,
                                      std::shared_ptr<TurnQueue> queue, bool calls_in_turn) {
  return std::make_unique<TurnsOfChain>(std::move(below), std::move(queue), calls_in_turn);
}

Turns::Turns(std::unique_ptr<Backend> opened, std::shared_ptr<TurnQueue> queue, bool calls_in_turn)
    : PassingLayer(std::move(opened)), queue_(std::move(queue)), waited_(below(), *queue_),
      calls_in_turn_(calls_in_turn) {}

void Turns::submit(Request &request, Caller caller) {
  if (!request.completers.push(*this)) {
    refuse(request, ENOMEM);
    return;
  }
  const bool may_call = caller == Caller::may_block || !queue_->has_workers();
  if (may_call && queue_->try_begin()) {
    below().submit(request, caller);
  } else if (!queue_->wait_for_turn(waited_, &request, caller == Caller::may_block)) {
    request.completers.pop(*this);
    refuse(request, ENOMEM);
  }
}

// The turn ends before the request is completed: after that, this object may be gone.
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
  for (Request *request : queue_->withdraw(waited_)) {
    request->completers.pop(*this);
    refuse(*request, ESHUTDOWN);
  }
  PassingLayer::give_up_unanswered();
}

bool Turns::finalize() {
  const std::unique_lock<TurnQueue> lock = turn_of_last_call();
  return PassingLayer::finalize();
}

void Turns::close() {
  const std::unique_lock<TurnQueue> lock = turn_of_last_call();
  PassingLayer::close();
}

// A layer that reads while it opens has made requests.
void Turns::close_unused() {
  const std::unique_lock<TurnQueue> lock = turn_of_last_call();
  PassingLayer::close_unused();
}

std::unique_lock<TurnQueue> Turns::turn_of_last_call() {
  queue_->wait_for_workers(waited_);
  return turn_of_call();
}

std::unique_lock<TurnQueue> Turns::turn_of_call() {
  return calls_in_turn_ ? std::unique_lock(*queue_) : std::unique_lock<TurnQueue>();
}

} // namespace asyncnbd::backend
