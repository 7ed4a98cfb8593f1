// See multi_conn_flush.hpp.
#include "filters/multi_conn_flush.hpp"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "wire/constants.hpp"

namespace asyncnbd::filters {

using backend::Caller;
using backend::Request;

FlushOthers::FlushOthers(FlushOwner &owner, std::shared_ptr<Members> members,
                         std::vector<SharedMember> others, Request &request, uint64_t time,
                         base::Threads &threads)
    : owner_(owner), members_(std::move(members)), others_(std::move(others)), request_(&request),
      time_(time), threads_(threads) {}

void FlushOthers::begin(Caller caller) {
  {
    std::lock_guard lock(members_->mutex());
    owner_.flushing.push_back(this);
  }
  run(caller);
}

// Once a child waits for its answer, this may be gone.
void FlushOthers::run(Caller caller) {
  while (next_ < others_.size()) {
    if (!submit_next(caller))
      return;
    if (child_error_ != 0)
      break;
    others_[next_++]->flushed.raise(time_);
  }
  end(child_error_, caller);
}

// False: whoever answers it goes on.
bool FlushOthers::submit_next(Caller caller) {
  child_.completers.reset(*this);
  child_.type = wire::NBD_CMD_FLUSH;
  child_.extras.reset();
  turn_.store(Turn::submitting, std::memory_order_relaxed);
  holders_.store(2, std::memory_order_relaxed);
  others_[next_]->below.submit(child_, caller);
  const Turn turn = turn_.exchange(Turn::submitted, std::memory_order_acq_rel);
  if (turn == Turn::given_up)
    end_given_up();
  return turn == Turn::completed;
}

// nullptr: it has been answered.
Request *FlushOthers::claim() {
  std::lock_guard lock(members_->mutex());
  if (request_ != nullptr)
    owner_.flushing.erase(std::find(owner_.flushing.begin(), owner_.flushing.end(), this));
  return std::exchange(request_, nullptr);
}

void FlushOthers::end(int error, Caller caller) {
  Request *request = claim();
  members_->let_go(others_);
  if (request != nullptr && error != 0 && child_.extras)
    request->make_extras().error_text = std::move(child_.extras->error_text);
  FlushOwner &owner = owner_;
  const uint64_t time = time_;
  delete this;
  if (request == nullptr)
    return;
  if (error != 0)
    request->complete(error);
  else
    owner.on_others_flushed(*request, time, caller);
}

void FlushOthers::complete(Request &, int error) {
  child_error_ = error;
  if (turn_.exchange(Turn::completed, std::memory_order_acq_rel) != Turn::submitted)
    return;
  if (error != 0) {
    end(error, Caller::must_not_block);
    return;
  }
  others_[next_++]->flushed.raise(time_);
  if (!threads_.run([this] { run(Caller::may_block); }))
    run(Caller::must_not_block);
}

void FlushOthers::give_up(Request &, int) {
  if (turn_.exchange(Turn::given_up, std::memory_order_acq_rel) == Turn::submitted)
    end_given_up();
}

// What is below may still use the child, so this stays.
void FlushOthers::end_given_up() {
  Request *request = claim();
  drop_holder();
  if (request != nullptr)
    request->complete(ESHUTDOWN);
}

void FlushOthers::release(Request &) {
  drop_holder();
}

void FlushOthers::drop_holder() {
  if (holders_.fetch_sub(1, std::memory_order_acq_rel) > 1)
    return;
  members_->let_go(others_);
  delete this;
}

void FlushOthers::abandon_all(FlushOwner &owner, Members &members) {
  for (;;) {
    Request *request;
    {
      std::lock_guard lock(members.mutex());
      if (owner.flushing.empty())
        return;
      request = std::exchange(owner.flushing.back()->request_, nullptr);
      owner.flushing.pop_back();
    }
    request->complete(ESHUTDOWN);
  }
}

} // namespace asyncnbd::filters
