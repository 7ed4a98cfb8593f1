// How the lead changes hands, from a thread whose call is slow to another: see leader.hpp.
#include <chrono>
#include <utility>

#include "nbd/leader.hpp"

namespace asyncnbd::nbd {

namespace {

// So long an asynchronous callback must last before it counts as slow.
constexpr std::chrono::milliseconds ASYNC_SLOW{5};
// How long a thread that has finished a slow call looks whether the leader is in another.
constexpr std::chrono::microseconds SLOW_AFTER{20};

} // namespace

bool Leader::start() {
  threads_.store(1, std::memory_order_relaxed);
  shared_.runtime.slow_calls.add(this, token_.word());
  if (shared_.runtime.threads.run(
          [this, life = shared_.life]() mutable { lead_on_pool(std::move(life)); }))
    return true;
  stop_noticing();
  return false;
}

void Leader::stop_noticing() {
  shared_.runtime.slow_calls.remove(this);
}

// The connection lives as long as somebody else keeps it, not as long as this thread has work.
void Leader::lead_on_pool(std::shared_ptr<void> life) {
  schedule::IdlePoller &poller = shared_.runtime.idle_poller;
  lead();
  life.reset(); // from here on, this may be gone
  poller.offer_thread();
}

// Before a call that will be slow: is there something that another thread could do meanwhile? A
// client that has other requests in flight will soon send more.
bool Leader::is_worth_another_thread() const {
  return threads_.load(std::memory_order_relaxed) < shared_.max_threads &&
         (reader_.has_more() || completions_.in_flight() > 1);
}

// The detector has seen `call` last.
bool Leader::on_slow_call(uint64_t call) {
  // Asynchronous callbacks return at once, unless the system is short of processors; then neither
  // a thread more nor short ticks are of help.
  if (shared_.answers_later) {
    const base::Time now = shared_.runtime.clock.now();
    if (std::exchange(slow_call_, call) != call)
      slow_call_seen_at_ = now;
    if (now - slow_call_seen_at_ < ASYNC_SLOW)
      return false;
  }
  latency_.count_slow_call();
  place_.replace_worker();
  if (threads_.load(std::memory_order_relaxed) < shared_.max_threads)
    hand_over(call);
  else
    send_for_slow_thread();
  return !shared_.answers_later;
}

// Another thread becomes the leader, unless the call has ended by the time it runs.
void Leader::hand_over(uint64_t call) {
  threads_.fetch_add(1, std::memory_order_relaxed);
  const bool running = shared_.runtime.threads.run([this, life = shared_.life, call]() mutable {
    if (token_.take(call))
      lead_on_pool(std::move(life));
    else
      threads_.fetch_sub(1, std::memory_order_relaxed);
  });
  if (!running)
    threads_.fetch_sub(1, std::memory_order_relaxed);
}

// Replies that are ready must not wait for a slow call behind them.
void Leader::send_for_slow_thread() {
  if (completions_.replies().pending_bytes() == 0 ||
      is_sending_.exchange(true, std::memory_order_relaxed))
    return;
  const bool running = shared_.runtime.threads.run([this, life = shared_.life] {
    completions_.replies().flush(WhenFull::wait);
    is_sending_.store(false, std::memory_order_relaxed);
  });
  if (!running)
    is_sending_.store(false, std::memory_order_relaxed);
}

// For a thread whose own call was slow: the leader's may be as well.
bool Leader::take_over_from_slow_thread() {
  const uint64_t call = token_.current_call();
  if (call == 0)
    return false;
  if (latency_.is_slow())
    return token_.take(call);
  const base::Time deadline = shared_.runtime.clock.now() + SLOW_AFTER;
  while (shared_.runtime.clock.now() < deadline)
    if (token_.current_call() != call)
      return false;
  return token_.take(call);
}

} // namespace asyncnbd::nbd
