// How a RetryLayer closes the export behind it and opens it anew, and how that ends when the client
// leaves.
#include "base/invariant.hpp"
#include "filters/retry_layer.hpp"

#include <cerrno>
#include <utility>

#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

using backend::Backend;

// ---- closing and opening ------------------------------------------------------------------------

// With the lock. True: the caller must call start_reopening.
bool RetryLayer::begin_if_drained() {
  if (state_ != State::draining || in_flight_ > 0 || users_ > 0)
    return false;
  state_ = State::reopening; // closing this layer waits for its end
  return true;
}

// If no thread can be started, the held requests have failed once more.
void RetryLayer::start_reopening() {
  if (resources_.threads.run([this] { reopen(); }))
    return;
  fail_all(end_reopening(nullptr, false), ENOMEM); // the protocol has no error for threads
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

// False: it could not be finalized, which may mean that data is lost; it stays as it is.
bool RetryLayer::close_behind() {
  std::shared_ptr<Backend> closed;
  {
    std::lock_guard lock(mutex_);
    base::invariant(in_flight_ == 0, "a backend that is closed has no request in flight");
    base::invariant(users_ == 0, "a backend that is closed has no thread in a call");
    reopenings_++;
    closed = behind_; // which stays, so that give_up_unanswered can end what the close waits for
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

// Returns the held requests, which keep this layer alive; if there are none, it may be gone.
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

// Tells a backend that was being opened when the client left or the server began to stop.
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

// While the export is being closed or opened, it is in use, so the requests that are held for it
// are not answered yet: once they are, other clients may have their turns. Giving up waits for
// that, too, as for any call that blocks.
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

// Also for a backend that is just being closed, which may wait for its requests.
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

// Waits until no thread is in a call of the backend behind. None will be later, because no request
// is outstanding. Requests that were given up are never answered, but their threads return.
// nullptr: it is closed.
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

// A layer in front that reads while it opens has made requests. All of them are answered, so this
// waits only for calls that must not block to return.
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
    host::log_debug("retry: %u attempts to open the export anew", reopenings);
  }
  if (behind != nullptr)
    behind->close();
}

} // namespace asyncnbd::filters
