// Who leads a connection: its thread, another one when a call is slow, none while it waits for its
// client. See connection.hpp.
#include "nbd/connection.hpp"

#include <chrono>
#include <utility>

namespace asyncnbd::nbd {

namespace {

// So long an asynchronous callback must last before it counts as slow.
constexpr std::chrono::milliseconds ASYNC_SLOW{5};
// How long a thread that has finished a slow call looks whether the leader is in another.
constexpr std::chrono::microseconds SLOW_AFTER{20};

} // namespace

// ---- leading -----------------------------------------------------------------------------------

// The connection lives as long as somebody else keeps it, not as long as this thread has work.
void Connection::lead_on_pool(std::shared_ptr<Connection> self) {
  schedule::IdlePoller &poller = self->runtime_.idle_poller;
  self->lead();
  self.reset();
  poller.offer_thread();
}

void Connection::lead() {
  host::ContextScope scope(
      client_.get()); // for log lines; a backend makes its own around its calls
  led_ = this;
  LeaderExit exit;
  do {
    exit = lead_until_handed_over();
  } while (exit == LeaderExit::replaced && max_threads_ > 1 && take_over_from_slow_thread());
  led_ = nullptr;
  if (exit != LeaderExit::released)
    threads_.fetch_sub(1, std::memory_order_relaxed);
}

Connection::LeaderExit Connection::lead_until_handed_over() {
  replies_->flush(when_full()); // a thread in a slow call may have left some behind
  do {
    while (PendingRequest *request = reader_->next()) {
      if (!execute(request))
        return LeaderExit::replaced;
      if (is_long_turn())
        before_delay();
      if (is_worth_sending() && !send()) {
        end();
        return LeaderExit::finished;
      }
    }
    if (!reader_->has_to_wait()) {
      end();
      return LeaderExit::finished;
    }
  } while (!wait_for_client());
  return LeaderExit::released;
}

// ---- waiting for the client without a thread ---------------------------------------------------

bool Connection::waits_in_poller(bool has_idled) {
  const bool elsewhere = is_to_wait_in_poller(has_idled);
  if (!elsewhere)
    suspend_input();
  return elsewhere;
}

// By the leader, who will see for itself what arrives: nobody else need be woken.
void Connection::suspend_input() {
  if (schedule::Registration *registration = registration_.load(std::memory_order_relaxed))
    runtime_.idle_poller.suspend_input(*registration);
}

void Connection::waits_here() {
  suspend_input();
  before_delay();
}

bool Connection::has_idled() {
  // Before that, those which are over have given back what they had.
  const bool is_all = live_.load() == 0;
  backend_->release_idle_memory();
  return is_all;
}

bool Connection::release_idle_memory() {
  const bool is_all = has_idled();
  reader_->release_idle_memory();
  return is_all;
}

// A connection for which others would have had to wait has its own thread until it idles: it would
// be so again.
bool Connection::is_to_wait_in_poller(bool has_idled) {
  if (schedule::IdlePoller::is_replaced())
    keeps_thread_ = true;
  if (!can_be_polled_ || !runtime_.idle_poller.is_open())
    return false;
  if (has_idled)
    keeps_thread_ = false;
  return has_idled || (!keeps_thread_ && latency_.is_quick());
}

void Connection::before_delay() {
  if (!schedule::IdlePoller::delays_others())
    return;
  keeps_thread_ = true;
  schedule::IdlePoller::before_delay();
}

// False: there is something to do for whoever leads.
bool Connection::wait_for_client() {
  schedule::Registration *registration = registration_.load(std::memory_order_relaxed);
  if (registration == nullptr) {
    registration = runtime_.idle_poller.add(*this, {transport_->input_fd(), transport_->wake_fd()});
    registration_.store(registration); // sequentially consistent: see stop
    can_be_polled_ = registration != nullptr;
    if (registration == nullptr)
      return false;
  }
  if (stop_requested_.load() || client_->server->is_stopping()) {
    stop_requested_.store(true);
    return false;
  }
  reader_->fill_thread_cache();
  threads_.fetch_sub(1, std::memory_order_relaxed);
  const schedule::IdlePoller::Wait wait = runtime_.idle_poller.wait(*registration);
  if (wait == schedule::IdlePoller::Wait::begun)
    return true;
  if (wait == schedule::IdlePoller::Wait::impossible)
    can_be_polled_ = false;
  threads_.fetch_add(1, std::memory_order_relaxed);
  reader_->use_thread_cache();
  return false;
}

// How much of a turn is too much for others who wait.
void Connection::begin_turn() {
  constexpr uint64_t MAX_REQUESTS = 1024;
  constexpr uint64_t MAX_BYTES = 4 << 20;
  turn_ends_at_requests_ = counters_.requests() + MAX_REQUESTS;
  turn_ends_at_bytes_ = counters_.moved_bytes() + MAX_BYTES;
  if (!latency_.is_quick()) // it is here because it has idled
    before_delay();
}

bool Connection::is_long_turn() const {
  return counters_.requests() > turn_ends_at_requests_ ||
         counters_.moved_bytes() > turn_ends_at_bytes_;
}

schedule::Pollable::Turn Connection::resume() {
  const std::shared_ptr<Connection> keep = self_; // it may come to its end
  threads_.fetch_add(1, std::memory_order_relaxed);
  reader_->use_thread_cache();
  const uint64_t before_bytes = counters_.read_bytes();
  begin_turn();
  lead();
  return {keep, counters_.read_bytes() - before_bytes};
}

// ---- handing over to another thread -------------------------------------------------------------

// Before a call that will be slow: is there something that another thread could do meanwhile? A
// client that has other requests in flight will soon send more.
bool Connection::is_worth_another_thread() const {
  return threads_.load(std::memory_order_relaxed) < max_threads_ &&
         (reader_->has_more() || live_.load(std::memory_order_relaxed) > 1);
}

// The detector has seen `call` last.
bool Connection::on_slow_call(uint64_t call) {
  // Asynchronous callbacks return at once, unless the system is short of processors; then neither
  // a thread more nor short ticks are of help.
  if (answers_later_) {
    const base::Time now = runtime_.clock.now();
    if (std::exchange(slow_call_, call) != call)
      slow_call_seen_at_ = now;
    if (now - slow_call_seen_at_ < ASYNC_SLOW)
      return false;
  }
  latency_.count_slow_call();
  if (schedule::Registration *registration = registration_.load(std::memory_order_acquire))
    schedule::IdlePoller::replace_worker(*registration);
  if (threads_.load(std::memory_order_relaxed) < max_threads_)
    hand_over(call);
  else
    send_for_slow_thread();
  return !answers_later_;
}

// Another thread becomes the leader, unless the call has ended by the time it runs.
void Connection::hand_over(uint64_t call) {
  threads_.fetch_add(1, std::memory_order_relaxed);
  bool running = runtime_.threads.run([self = self_, call]() mutable {
    if (self->leader_token_.take(call))
      lead_on_pool(std::move(self));
    else
      self->threads_.fetch_sub(1, std::memory_order_relaxed);
  });
  if (!running)
    threads_.fetch_sub(1, std::memory_order_relaxed);
}

// Replies that are ready must not wait for a slow call behind them.
void Connection::send_for_slow_thread() {
  if (replies_->pending_bytes() == 0 || is_sending_.exchange(true, std::memory_order_relaxed))
    return;
  bool running = runtime_.threads.run([self = self_] {
    self->replies_->flush(WhenFull::wait);
    self->is_sending_.store(false, std::memory_order_relaxed);
  });
  if (!running)
    is_sending_.store(false, std::memory_order_relaxed);
}

// For a thread whose own call was slow: the leader's may be as well.
bool Connection::take_over_from_slow_thread() {
  uint64_t call = leader_token_.current_call();
  if (call == 0)
    return false;
  if (latency_.is_slow())
    return leader_token_.take(call);
  const base::Time deadline = runtime_.clock.now() + SLOW_AFTER;
  while (runtime_.clock.now() < deadline)
    if (leader_token_.current_call() != call)
      return false;
  return leader_token_.take(call);
}

} // namespace asyncnbd::nbd
