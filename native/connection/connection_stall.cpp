// What a connection does about a client that does not go on: waits for it are guarded, and it is
// cut after a time. See connection.hpp.
#include "connection/connection.hpp"

#include <algorithm>
#include <string>

namespace asyncnbd::connection {

transport::Wait Connection::wait(transport::Wanted wanted, int timeout_ms, bool owes_input) {
  return guarded_wait(wanted, timeout_ms, owes_input, false);
}

transport::Wait Connection::guarded_wait(transport::Wanted wanted, int timeout_ms, bool owes_input,
                                         bool heed_hang_up) {
  std::optional<schedule::GuardedWait> input;
  std::optional<schedule::GuardedWait> output;
  if (owes_input)
    guard_wait(&input, schedule::Stall::sends_nothing, &timeout_ms);
  if (wanted.room)
    guard_wait(&output, schedule::Stall::takes_nothing, &timeout_ms);
  return transport_->wait(wanted, timeout_ms, heed_hang_up);
}

// ReplyListener: by whoever sends, and cannot.
void Connection::wait_for_room() {
  int timeout_ms = -1;
  std::optional<schedule::GuardedWait> wait;
  guard_wait(&wait, schedule::Stall::takes_nothing, &timeout_ms);
  transport_->wait_for_room(timeout_ms);
}

// Before a wait: the guard gets to know of it if the client is slow already; else the wait is
// short.
void Connection::guard_wait(std::optional<schedule::GuardedWait> *wait, schedule::Stall stall,
                            int *timeout_ms) {
  const base::Time now = runtime_.clock.now();
  const base::Time since =
      stall == schedule::Stall::sends_nothing
          ? input_meter_.slow_since(now, reader_->received_bytes(), reader_->begun_requests())
          : output_meter_.slow_since(now, replies_->sent_bytes(), replies_->times_empty());
  if (now - since >= schedule::GuardedWait::UNGUARDED) {
    wait->emplace(runtime_.stall_guard, static_cast<schedule::Stallable &>(*this), stall, since,
                  stall_timeout_);
    return;
  }
  constexpr int unguarded_ms = schedule::GuardedWait::UNGUARDED.count();
  *timeout_ms = *timeout_ms < 0 ? unguarded_ms : std::min(*timeout_ms, unguarded_ms);
}

void Connection::on_stall(schedule::Stall stall, std::chrono::milliseconds lasts) {
  std::string reason = stall == schedule::Stall::sends_nothing
                           ? "the rest of a request did not arrive for "
                           : "replies were not read for ";
  reason += std::to_string(lasts.count() / 1000) + " s";
  if (lasts < stall_timeout_)
    reason += " while other clients waited for memory";
  failure_.note_stall(reason); // before the end that the leader is about to see
  transport_->abort();
}

} // namespace asyncnbd::connection
