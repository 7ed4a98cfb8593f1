// Leading on the event loop that the backend's callbacks run on: by turns, and never waiting. See
// leader.hpp.
#include <chrono>
#include <utility>

#include "base/invariant.hpp"
#include "nbd/leader.hpp"

namespace asyncnbd::nbd {

using schedule::LoopPoller;

namespace {

// A turn ends with the request that makes it so large: the loop has other things to do. With less,
// fewer replies would leave together, and the client would be woken for each.
constexpr uint64_t MAX_TURN_BYTES = 1 << 20;
constexpr uint64_t MAX_TURN_REQUESTS = 64;

} // namespace

// Before anything that waits. False: this thread still leads.
bool Leader::move_to_loop() {
  if (shared_.stop_requested.load(std::memory_order_relaxed) || completions_.replies().is_full())
    return false;
  place_.suspend_input();
  return loop_.enter(*this);
}

// The thread is counted as long as the loop leads, whether or not it has a turn.
void Leader::lead_on_loop() {
  const LoopPoller::Turn turn = LoopPoller::current_turn();
  for (;;) {
    const AfterTurn after = turn == LoopPoller::Turn::input ? lead_at_once() : AfterTurn::leaves;
    if (after == AfterTurn::leaves)
      return leave_loop();
    if (after == AfterTurn::waits_for_turn ? loop_.wait_for_turn() : loop_.wait())
      return;
  }
}

Leader::AfterTurn Leader::lead_at_once() {
  host::ContextScope scope(shared_.ends.client.get());
  const Completions::Leading leading(completions_);
  intake_.look_again(); // the event that this turn is for may have been taken for another's
  const uint64_t ends_at_requests = shared_.counters.requests() + MAX_TURN_REQUESTS;
  const uint64_t ends_at_bytes = shared_.counters.moved_bytes() + MAX_TURN_BYTES;
  while (PendingRequest *request = intake_.next_at_once()) {
    if (needs_backend(request))
      shared_.backend.submit(*request, backend::Caller::must_not_block);
    if (shared_.counters.requests() < ends_at_requests &&
        shared_.counters.moved_bytes() < ends_at_bytes)
      continue;
    completions_.replies().flush(when_full());
    return loop_.is_wanted() ? AfterTurn::waits_for_turn : AfterTurn::leaves;
  }
  return intake_.has_to_wait() && loop_.is_wanted() && may_wait_on_loop()
             ? AfterTurn::waits_for_client
             : AfterTurn::leaves;
}

// In the middle of a request not for long, however many turns the client's bytes make: elsewhere a
// guard sees to it that the client goes on.
bool Leader::may_wait_on_loop() {
  if (reader_.is_between_requests())
    return true;
  const base::Time now = shared_.runtime.clock.now();
  if (std::exchange(waited_for_request_, reader_.begun_requests()) != reader_.begun_requests())
    waits_since_ = now;
  return now - waits_since_ < std::chrono::milliseconds(LoopPoller::QUIET_MS);
}

// For a thread of the pool. If there is none, the next turn tries again; after the last one, the
// connection ends here.
void Leader::leave_loop() {
  const bool is_running = shared_.runtime.threads.run([this, life = shared_.life]() mutable {
    loop_.leave();
    lead_on_pool(std::move(life));
  });
  if (is_running)
    return;
  if (LoopPoller::current_turn() != LoopPoller::Turn::last) {
    const bool has_begun = loop_.wait_for_turn();
    base::invariant(has_begun, "a loop does not end in the middle of a turn");
    return;
  }
  shared_.transport.abort();
  loop_.leave();
  lead();
}

} // namespace asyncnbd::nbd
