// How a RetryLayer closes what is behind it and opens it anew, and how both end with the client.
#include "base/invariant.hpp"
#include "filters/retry_layer.hpp"

#include <cerrno>
#include <utility>

#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

using backend::Backend;

// ---- closing and opening ------------------------------------------------------------------------

// With the lock. True: who has called it is to start the thread.
bool RetryLayer::begin_if_drained() {
  if (state_ != State::draining || in_flight_ > 0 || users_ > 0)
    return false;
  state_ = State::reopening; // who closes this waits for its end
  return true;
}

// Without a thread, what is held has failed once more.
void RetryLayer::start_reopening() {
  if (resources_.threads.run([this] { reopen(); }))
    return;
  fail_all(end_reopening(nullptr, false), ENOMEM); // the protocol has none for threads
}

// On a thread of the pool; nothing is in flight.
void RetryLayer::reopen() {
  const bool is_tried = !is_over();
  std::shared_ptr<Backend> opened;
  if (is_tried && close_behind() && !is_over())
    opened = open_behind();
  const bool is_open = opened != nullptr;
  HeldRequest *list = end_reopening(std::move(opened), is_tried);
  if (list == nullptr)
    return;
  if (is_over())
    answer_all(list);
  else if (is_open)
    go_all(list);
  else
    fail_all(list, ESHUTDOWN);
}

bool RetryLayer::is_over() const {
  std::lock_guard lock(mutex_);
  return is_over_;
}

// False: it could not be ended, which may mean that data are lost; it stays as it is.
bool RetryLayer::close_behind() {
  std::shared_ptr<Backend> closed;
  {
    std::lock_guard lock(mutex_);
    base::invariant(in_flight_ == 0, "what is closed has no request in flight");
    base::invariant(users_ == 0, "what is closed has no thread in a call");
    reopenings_++;
    closed = behind_; // which stays, for who gives up what its close waits for
  }
  if (closed == nullptr)
    return true;
  if (!closed->finalize())
    return false;
  closed->close();
  std::lock_guard lock(mutex_);
  behind_ = nullptr;
  return true;
}

std::shared_ptr<Backend> RetryLayer::open_behind() {
  std::string error;
  std::shared_ptr<Backend> opened = open_again_(is_readonly_ || settings_.forces_readonly, &error);
  if (!error.empty()) {
    host::ContextScope scope(&context_);
    host::log_error("%s", error.c_str());
  }
  return opened;
}

// Returns what is held, which keeps this alive; if there is nothing, this may be gone.
HeldRequest *RetryLayer::end_reopening(std::shared_ptr<Backend> opened, bool is_tried) {
  HeldRequest *list;
  bool tells;
  {
    std::lock_guard lock(mutex_);
    base::invariant(state_ == State::reopening, "one thread at a time opens what is behind retry");
    const bool is_open = opened != nullptr || (!is_tried && behind_ != nullptr);
    state_ = is_open ? State::open : State::broken;
    if (opened != nullptr) {
      behind_ = std::move(opened);
      generation_++;
    }
    list = take_held();
    tells = is_open && (client_is_gone_ || server_stops_);
    users_ += tells ? 1 : 0;
    changed_.notify_all();
  }
  if (tells)
    tell_late();
  return list;
}

// To what was being opened when it happened.
void RetryLayer::tell_late() {
  std::shared_ptr<Backend> behind;
  bool client_is_gone;
  bool server_stops;
  {
    std::lock_guard lock(mutex_);
    behind = behind_;
    client_is_gone = client_is_gone_;
    server_stops = server_stops_;
  }
  if (client_is_gone)
    behind->on_client_gone();
  if (server_stops)
    behind->on_server_stopping();
  end_use();
}

// ---- the end ------------------------------------------------------------------------------------

// What is being closed or opened is in use until that ends, and so the requests are that are held
// for it: once they are answered, other clients may have their turns. Who gives up waits for it,
// too, as for any call that blocks.
void RetryLayer::end_waiting(bool gives_up) {
  HeldRequest *list = nullptr;
  bool is_reopening;
  {
    std::lock_guard lock(mutex_);
    is_over_ = true;
    is_reopening = state_ == State::reopening;
    if (state_ == State::draining)
      state_ = behind_ != nullptr ? State::open : State::broken;
    if (!is_reopening)
      list = take_held();
  }
  if (is_reopening || gives_up)
    give_up_opening_();
  waiting_.fail_all();
  answer_all(list);
}

void RetryLayer::on_client_gone() {
  {
    std::lock_guard lock(mutex_);
    client_is_gone_ = true;
  }
  end_waiting(false);
  if (const std::shared_ptr<Backend> behind = begin_use()) {
    behind->on_client_gone();
    end_use();
  }
}

void RetryLayer::on_server_stopping() {
  {
    std::lock_guard lock(mutex_);
    server_stops_ = true;
  }
  end_waiting(false);
  if (const std::shared_ptr<Backend> behind = begin_use()) {
    behind->on_server_stopping();
    end_use();
  }
}

// Also of what is just being closed, which may wait for that.
void RetryLayer::give_up_unanswered() {
  end_waiting(true);
  if (const std::shared_ptr<Backend> behind = this->behind())
    behind->give_up_unanswered();
}

void RetryLayer::release_idle_memory() {
  waiting_.trim();
  if (const std::shared_ptr<Backend> behind = begin_use()) {
    behind->release_idle_memory();
    end_use();
  }
}

// Once no thread is in a call of what is behind, nor will be: no request is outstanding. Those that
// are given up are never answered, but threads return. nullptr: it is closed.
std::shared_ptr<Backend> RetryLayer::behind_at_rest() {
  std::unique_lock lock(mutex_);
  if (state_ == State::reopening) { // for a request that was given up
    lock.unlock();
    give_up_opening_();
    lock.lock();
  }
  changed_.wait(lock, [this] { return users_ == 0 && state_ != State::reopening; });
  return behind_;
}

bool RetryLayer::finalize() {
  const std::shared_ptr<Backend> behind = behind_at_rest();
  return behind == nullptr || behind->finalize();
}

// Who reads while it opens has made requests. All of them are answered, so what is waited for is
// the return of a call that must not block.
void RetryLayer::close_unused() {
  if (const std::shared_ptr<Backend> behind = behind_at_rest())
    behind->close_unused();
}

void RetryLayer::close() {
  const std::shared_ptr<Backend> behind = behind_at_rest();
  unsigned reopenings;
  {
    std::lock_guard lock(mutex_);
    reopenings = reopenings_;
  }
  {
    host::ContextScope scope(&context_);
    host::log_debug("opening anew what is behind was tried %u times", reopenings);
  }
  if (behind != nullptr)
    behind->close();
}

} // namespace asyncnbd::filters
