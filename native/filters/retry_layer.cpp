// See retry_layer.hpp: the way of a request through a RetryLayer, and the count of those that use
// the backend behind it.
#include "filters/retry_layer.hpp"

#include <cerrno>
#include <utility>

#include "base/invariant.hpp"
#include "filters/retry_check.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"

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

// On any thread that may submit; nothing here waits. Afterwards another thread may have the
// request.
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
      base::invariant(behind != nullptr, "a backend that gets a request is open");
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

// With the lock. If it is not held, `*refusal` says whether it can go on.
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
    return {}; // the layers in front have checked it
  if (settings_.forces_readonly && wire::is_change(request.type))
    return {EROFS, true};
  const bool is_open = state_ == State::open;
  if (is_fast_zero(request) && (!is_open || !behind_->facts().can_fast_zero))
    return {ENOTSUP, true};
  return {is_open ? error_of_lack(request, behind_->facts()) : ESHUTDOWN, false};
}

void RetryLayer::pass_on(Attempt attempt, Request &request, Backend &behind) {
  const uint64_t state = uint64_t{attempt.retries} << GENERATION_BITS | attempt.generation;
  if (attempt.retries != 0)
    forget_answer(request); // not before: a request that goes no further keeps its last failure
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

// The backend behind may be closed before the answer has been sent, so the data must not stay
// there.
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

// It still counts as in flight: the backend behind may go on using it, and is not closed before the
// client's end.
void RetryLayer::give_up(Request &request, int error) {
  pop(request);
  request.give_up(error);
}

// The request must not be in flight. Afterwards another thread may have it.
void RetryLayer::fail(Attempt attempt, Request &request) {
  const Repetition &repetition = settings_.repetition;
  log_failure(context_, request, attempt.error, attempt.retries, repetition);
  if (attempt.retries < repetition.retries &&
      waiting_.begin(request, attempt, repetition.delay_before(attempt.retries)) == 0)
    return;
  request.complete(attempt.error);
}

// On the timers' thread. If the export was opened anew meanwhile, for another request, that is
// enough.
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

// ---- users of the backend behind ----------------------------------------------------------------

// nullptr: it is closed, or about to be. Otherwise it stays until end_use.
std::shared_ptr<Backend> RetryLayer::begin_use() {
  std::lock_guard lock(mutex_);
  if (behind_ == nullptr || state_ == State::reopening)
    return nullptr;
  users_++;
  return behind_;
}

// Afterwards this layer may be gone.
void RetryLayer::end_use() {
  bool is_due;
  {
    std::lock_guard lock(mutex_);
    base::invariant(users_ > 0, "a call that returns from behind retry was counted");
    users_--;
    is_due = begin_if_drained();
    changed_.notify_all();
  }
  if (is_due)
    start_reopening();
}

// For a request that has returned from the backend behind, but is not complete yet.
void RetryLayer::end_flight() {
  bool is_due;
  {
    std::lock_guard lock(mutex_);
    base::invariant(in_flight_ > 0, "a request that returns from behind retry was counted");
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

// With the lock. In the order in which they came.
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

// After the last request is answered, this layer may be gone; so it may be in the next two.
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

} // namespace asyncnbd::filters
