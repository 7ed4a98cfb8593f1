// See retry_layer.hpp.
#include "filters/retry_layer.hpp"

#include <cerrno>
#include <utility>

#include "filters/commands.hpp"
#include "filters/retry_check.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

using backend::Backend;
using backend::Caller;
using backend::Request;

namespace {

constexpr unsigned GENERATION_BITS = 32;

bool is_fast_zero(const Request &request) {
  return request.type == wire::NBD_CMD_WRITE_ZEROES &&
         (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
}

} // namespace

RetryLayer::RetryLayer(std::unique_ptr<Backend> opened, const backend::Opening &opening,
                       const RetrySettings &settings, const backend::Resources &resources,
                       RetrySlabs &slabs)
    : context_(opening.context), is_readonly_(opening.is_readonly), open_again_(opening.open_again),
      give_up_opening_(opening.give_up_opening), settings_(settings), resources_(resources),
      slabs_(slabs), waiting_(*this, resources, slabs.waiting), behind_(std::move(opened)) {}

bool RetryLayer::collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) {
  if (!behind_->prepare(wanted, error))
    return false;
  *facts = behind_->facts();
  facts->thread_model = backend::ThreadModel::async;
  facts->call_limits = {};
  facts->call_limits.emulates_fua = true;
  return true;
}

uint32_t RetryLayer::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  const std::shared_ptr<Backend> behind = this->behind();
  const uint32_t bytes = behind != nullptr ? behind->bytes_besides(type, length_bytes) : 0;
  return bytes + RetriedRequests::BYTES + sizeof(HeldRequest);
}

// ---- the way of a request -----------------------------------------------------------------------

// On any thread that may submit; nothing here waits. After this it may be anyone's.
void RetryLayer::go(Attempt attempt, Request &request) {
  Refusal refusal;
  Backend *behind;
  {
    std::lock_guard lock(mutex_);
    if (is_held(attempt, request, &refusal))
      return;
    attempt.generation = generation_;
    behind = behind_.get(); // stays as long as it is used
    if (refusal.error == 0) {
      in_flight_++;
      users_++;
    }
  }
  attempt.error = refusal.error;
  if (refusal.error == 0) {
    pass_on(attempt, request, *behind);
    return;
  }
  forget_answer(request);
  if (refusal.is_final)
    request.complete(refusal.error);
  else
    fail(attempt, request);
}

// With the lock. If not, `*refusal` says whether it can go on.
bool RetryLayer::is_held(Attempt attempt, Request &request, Refusal *refusal) {
  if (state_ == State::draining || state_ == State::reopening) {
    if (!is_over_ && hold(attempt, request))
      return true;
    *refusal = {is_over_ ? ESHUTDOWN : ENOMEM, true};
  } else {
    *refusal = refusal_of(request);
  }
  return false;
}

// With the lock.
RetryLayer::Refusal RetryLayer::refusal_of(const Request &request) const {
  if (reopenings_ == 0)
    return {}; // who stands in front has checked
  if (settings_.forces_readonly && is_change(request.type))
    return {EROFS, true};
  const bool is_open = state_ == State::open;
  if (is_fast_zero(request) && (!is_open || !behind_->facts().can_fast_zero))
    return {ENOTSUP, true};
  return {is_open ? error_of_lack(request, behind_->facts()) : ESHUTDOWN, false};
}

void RetryLayer::pass_on(Attempt attempt, Request &request, Backend &behind) {
  const uint64_t state = uint64_t{attempt.retries} << GENERATION_BITS | attempt.generation;
  if (attempt.retries != 0)
    forget_answer(request); // not before: should it go no further, it is answered as it has failed
  if (request.completers.push(*this, reinterpret_cast<void *>(static_cast<uintptr_t>(state)))) {
    behind.submit(request, Caller::must_not_block);
  } else {
    end_flight();
    request.complete(ENOMEM);
  }
  end_use();
}

Attempt RetryLayer::pop(Request &request) {
  const auto state =
      static_cast<uint64_t>(reinterpret_cast<uintptr_t>(request.completers.pop(*this)));
  return {static_cast<uint32_t>(state >> GENERATION_BITS), static_cast<uint32_t>(state), 0};
}

// What is behind may be closed before the answer has been sent, so its data may not stay there.
void RetryLayer::complete(Request &request, int error) {
  Attempt attempt = pop(request);
  attempt.error = error;
  if (error == 0 && request.answer.is_elsewhere())
    request.take_answer(error);
  end_flight(); // the request keeps this alive
  if (error == 0)
    request.complete(0);
  else
    fail(attempt, request);
}

// What is behind may go on using it, so that is not closed before the client's end.
void RetryLayer::give_up(Request &request, int error) {
  pop(request);
  request.give_up(error);
}

// It is not in flight. After this it may be anyone's.
void RetryLayer::fail(Attempt attempt, Request &request) {
  const Repetition &repetition = settings_.repetition;
  log_failure(context_, request, attempt.error, attempt.retries, repetition);
  if (attempt.retries < repetition.retries &&
      waiting_.begin(request, attempt, repetition.delay_before(attempt.retries)) == 0)
    return;
  request.complete(attempt.error);
}

// On the timers' thread. Whoever has had it opened meanwhile has done so for this one, too.
void RetryLayer::on_time(Request &request, Attempt attempt) {
  attempt.retries++;
  bool is_over;
  bool has_begun = false;
  bool is_due = false;
  {
    std::lock_guard lock(mutex_);
    is_over = is_over_;
    const bool is_stale = state_ == State::open && attempt.generation == generation_;
    if (!is_over && (is_stale || state_ == State::broken) && hold(attempt, request)) {
      state_ = State::draining;
      has_begun = true;
      is_due = begin_if_drained();
    }
  }
  if (is_due)
    start_reopening();
  else if (is_over)
    request.complete(attempt.error);
  else if (!has_begun)
    go(attempt, request);
}

// ---- who uses what is behind --------------------------------------------------------------------

// nullptr: it is closed, or about to be. Else it stays until end_use.
std::shared_ptr<Backend> RetryLayer::begin_use() {
  std::lock_guard lock(mutex_);
  if (behind_ == nullptr || state_ == State::reopening)
    return nullptr;
  users_++;
  return behind_;
}

// After this, what is here may be gone.
void RetryLayer::end_use() {
  bool is_due;
  {
    std::lock_guard lock(mutex_);
    users_--;
    is_due = begin_if_drained();
    changed_.notify_all();
  }
  if (is_due)
    start_reopening();
}

// Of a request that is not complete yet.
void RetryLayer::end_flight() {
  bool is_due;
  {
    std::lock_guard lock(mutex_);
    in_flight_--;
    is_due = begin_if_drained();
  }
  if (is_due)
    start_reopening();
}

std::shared_ptr<Backend> RetryLayer::behind() const {
  std::lock_guard lock(mutex_);
  return behind_;
}

// ---- requests that are held ---------------------------------------------------------------------

// With the lock. False: memory is short.
bool RetryLayer::hold(Attempt attempt, Request &request) {
  HeldRequest *held = slabs_.held.make(HeldRequest{&request, attempt, held_});
  if (held == nullptr)
    return false;
  held_ = held;
  return true;
}

// With the lock. The first one first.
HeldRequest *RetryLayer::take_held() {
  HeldRequest *list = nullptr;
  while (held_ != nullptr) {
    HeldRequest *last = std::exchange(held_, held_->next);
    last->next = list;
    list = last;
  }
  return list;
}

HeldRequest RetryLayer::take_first(HeldRequest **list) {
  HeldRequest *first = std::exchange(*list, (*list)->next);
  const HeldRequest held = *first;
  base::SlabsOf<HeldRequest>::destroy(first);
  return held;
}

// The last one may be the end of this, here and below.
void RetryLayer::answer_all(HeldRequest *list) {
  while (list != nullptr) {
    const HeldRequest held = take_first(&list);
    held.request->complete(held.attempt.error != 0 ? held.attempt.error : ESHUTDOWN);
  }
}

void RetryLayer::fail_all(HeldRequest *list, int error) {
  while (list != nullptr) {
    HeldRequest held = take_first(&list);
    held.attempt.error = error;
    fail(held.attempt, *held.request);
  }
}

void RetryLayer::go_all(HeldRequest *list) {
  while (list != nullptr) {
    const HeldRequest held = take_first(&list);
    go(held.attempt, *held.request);
  }
}

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
  fail_all(end_reopening(nullptr, false), EAGAIN);
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
