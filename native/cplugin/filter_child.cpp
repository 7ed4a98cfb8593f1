// See filter_child.hpp.
#include "cplugin/filter_child.hpp"

#include <new>
#include <utility>

#include "base/invariant.hpp"

namespace asyncnbd::cplugin {

Child *Child::make(size_t data_bytes, std::shared_ptr<backend::Backend> behind) {
  auto child = std::unique_ptr<Child>(new (std::nothrow) Child);
  if (child == nullptr)
    return nullptr;
  child->behind_ = std::move(behind);
  if (data_bytes > 0) {
    child->memory_.reset(new (std::nothrow) uint8_t[data_bytes]);
    child->request.data = child->memory_.get();
    if (child->memory_ == nullptr)
      return nullptr;
  }
  return child.release();
}

void Child::let_go() {
  const int holders = holders_.fetch_sub(1);
  base::invariant(holders > 0, "a filter's request is let go by those that hold it");
  if (holders == 1)
    delete this;
}

int Child::run(backend::Backend &backend) {
  backend.submit(request, backend::Caller::may_block);
  if (!has_ended_here_) {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return has_ended_; });
  }
  return error_;
}

// Keeps the lock until everything is done: the submitter may free this as soon as it gets the lock.
void Child::end(int error) {
  if (pthread_equal(submitter_, pthread_self()) != 0) {
    error_ = error;
    has_ended_here_ = true;
    return;
  }
  std::lock_guard lock(mutex_);
  error_ = error;
  has_ended_ = true;
  ended_.notify_one();
}

void Child::complete(backend::Request &, int error) {
  request.take_answer(error);
  const int holders = holders_.fetch_sub(1);
  base::invariant(holders > 1, "who waits for a filter's request holds it");
  end(error);
}

void Child::give_up(backend::Request &, int error) {
  is_given_up_ = true;
  end(error);
}

// This may destroy the child and what is behind it; nothing touches them afterwards.
void Child::release(backend::Request &) {
  let_go();
}

} // namespace asyncnbd::cplugin
