// See multi_conn_flush.hpp.
#include "filters/multi_conn_flush.hpp"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <new>
#include <utility>

#include "base/invariant.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

using backend::Backend;
using backend::Caller;
using backend::Request;

// ---- the flush of one other client --------------------------------------------------------------

ChildFlush::ChildFlush(FlushOthers &flush, std::shared_ptr<Backend> below)
    : flush_(flush), below_(std::move(below)) {
  request_.completers.reset(*this);
  request_.type = wire::NBD_CMD_FLUSH;
}

bool ChildFlush::submit(Caller caller) {
  below_->submit(request_, caller);
  return turn_.exchange(Turn::submitted, std::memory_order_acq_rel) == Turn::ended;
}

void ChildFlush::give_up(Request &, int error) {
  is_given_up_ = true;
  end(error);
}

void ChildFlush::end(int error) {
  error_ = error;
  if (turn_.exchange(Turn::ended, std::memory_order_acq_rel) == Turn::submitted)
    flush_.on_child_ended(*this);
}

int ChildFlush::take_end(std::string *error_text) {
  const int error = error_;
  if (is_given_up_) { // the backend below may still use the request
    drop_holder();
    return error;
  }
  if (request_.extras)
    *error_text = std::move(request_.extras->error_text);
  delete this;
  return error;
}

void ChildFlush::drop_holder() {
  if (holders_.fetch_sub(1, std::memory_order_acq_rel) == 1)
    delete this;
}

// ---- the flush of all others --------------------------------------------------------------------

FlushOthers::FlushOthers(FlushOwner &owner, std::shared_ptr<Members> members,
                         const std::vector<SharedMember> &others, Request &request, uint64_t time,
                         base::Threads &threads)
    : owner_(owner), members_(std::move(members)), time_(time), threads_(threads),
      to_come_(others.rbegin(), others.rend()), request_(&request) {}

void FlushOthers::begin(Caller caller) {
  {
    std::lock_guard lock(members_->mutex());
    owner_.flushing.push_back(this);
  }
  run(caller);
}

// Once a child waits for its answer, this object may be gone.
void FlushOthers::run(Caller caller) {
  std::shared_ptr<Backend> below;
  while (error_ == 0 && take_next(&below)) {
    if (below == nullptr) {
      end_one(ESHUTDOWN);
      continue;
    }
    auto *child = new (std::nothrow) ChildFlush(*this, std::move(below));
    if (child == nullptr) {
      end_one(ENOMEM);
      continue;
    }
    if (!child->submit(caller))
      return;
    end_one(child->take_end(&error_text_));
  }
  end(caller);
}

// False: no member is left, or nobody waits for this any more. `*below` is nullptr if the member
// has been given up.
bool FlushOthers::take_next(std::shared_ptr<Backend> *below) {
  std::lock_guard lock(members_->mutex());
  if (to_come_.empty())
    return false;
  member_ = std::move(to_come_.back());
  to_come_.pop_back();
  Members::use(*member_);
  *below = member_->below;
  return true;
}

// The error of a member that leaves unused does not count: it has nothing that could be lost.
void FlushOthers::end_one(int error) {
  if (error == 0)
    member_->flushed.raise(time_);
  else if (!members_->is_unused(*member_))
    error_ = error;
  members_->let_go(*member_);
  member_.reset();
}

void FlushOthers::on_child_ended(ChildFlush &child) {
  end_one(child.take_end(&error_text_));
  if (error_ != 0)
    end(Caller::must_not_block);
  else if (!threads_.run([this] { run(Caller::may_block); }))
    run(Caller::must_not_block);
}

void FlushOthers::end(Caller caller) {
  Request *request;
  std::vector<SharedMember> left;
  {
    std::lock_guard lock(members_->mutex());
    request = std::exchange(request_, nullptr);
    left.swap(to_come_);
    if (request != nullptr) {
      const auto place = std::find(owner_.flushing.begin(), owner_.flushing.end(), this);
      base::invariant(place != owner_.flushing.end(), "a flush that ends is its owner's");
      owner_.flushing.erase(place);
    }
  }
  members_->forget(left);
  const std::unique_ptr<FlushOthers> ended(this);
  if (request == nullptr)
    return;
  if (error_ == 0) {
    owner_.on_others_flushed(*request, time_, caller);
    return;
  }
  if (!error_text_.empty())
    request->make_extras().error_text = std::move(error_text_);
  request->complete(error_);
}

void FlushOthers::abandon_all(FlushOwner &owner, Members &members) {
  for (;;) {
    Request *request;
    std::vector<SharedMember> left;
    {
      std::lock_guard lock(members.mutex());
      if (owner.flushing.empty())
        return;
      FlushOthers &flush = *owner.flushing.back();
      owner.flushing.pop_back();
      request = std::exchange(flush.request_, nullptr);
      left.swap(flush.to_come_);
    }
    members.forget(left);
    request->complete(ESHUTDOWN);
  }
}

} // namespace asyncnbd::filters
