// See client_waits.hpp.
#include "nbd/client_waits.hpp"

#include <algorithm>
#include <string>

namespace asyncnbd::nbd {

namespace {

// Stands for no limit.
constexpr std::chrono::hours NO_LIMIT{24 * 365 * 100};

} // namespace

ClientWaits::ClientWaits(schedule::Runtime &runtime, const Watched &watched, Failure &failure,
                         std::chrono::milliseconds limit)
    : runtime_(runtime), watched_(watched), failure_(failure),
      limit_(limit.count() > 0 ? limit : NO_LIMIT) {}

transport::Wait ClientWaits::wait(transport::Wanted wanted, int timeout_ms, bool owes_input,
                                  bool heed_hang_up) {
  std::optional<schedule::GuardedWait> input;
  std::optional<schedule::GuardedWait> output;
  if (owes_input)
    guard(&input, schedule::Stall::sends_nothing, &timeout_ms);
  if (wanted.room)
    guard(&output, schedule::Stall::takes_nothing, &timeout_ms);
  return watched_.transport.wait(wanted, timeout_ms, heed_hang_up);
}

void ClientWaits::wait_for_room() {
  int timeout_ms = -1;
  std::optional<schedule::GuardedWait> wait;
  guard(&wait, schedule::Stall::takes_nothing, &timeout_ms);
  watched_.transport.wait_for_room(timeout_ms);
}

// Before a wait: the guard gets to know of it if the client is slow already; else the wait is
// short.
void ClientWaits::guard(std::optional<schedule::GuardedWait> *wait, schedule::Stall stall,
                        int *timeout_ms) {
  const base::Time now = runtime_.clock.now();
  const base::Time since = slow_since(stall, now);
  if (now - since >= schedule::GuardedWait::UNGUARDED) {
    wait->emplace(runtime_.stall_guard, static_cast<schedule::Stallable &>(*this), stall, since,
                  limit_);
    return;
  }
  constexpr int unguarded_ms = schedule::GuardedWait::UNGUARDED.count();
  *timeout_ms = *timeout_ms < 0 ? unguarded_ms : std::min(*timeout_ms, unguarded_ms);
}

base::Time ClientWaits::slow_since(schedule::Stall stall, base::Time now) {
  if (stall == schedule::Stall::sends_nothing)
    return input_meter_.slow_since(now, watched_.reader.received_bytes(),
                                   watched_.reader.begun_requests());
  return output_meter_.slow_since(now, watched_.replies.sent_bytes(),
                                  watched_.replies.times_empty());
}

void ClientWaits::on_stall(schedule::Stall stall, std::chrono::milliseconds lasts) {
  std::string reason = stall == schedule::Stall::sends_nothing
                           ? "the rest of a request did not arrive for "
                           : "replies were not read for ";
  reason += std::to_string(lasts.count() / 1000) + " s";
  if (lasts < limit_)
    reason += " while other clients waited for memory";
  failure_.note(reason, failure_kind::STALLED); // before the end that the leader is about to see
  watched_.transport.abort();
}

} // namespace asyncnbd::nbd
