// See intake.hpp.
#include "nbd/intake.hpp"

#include <utility>

namespace asyncnbd::nbd {

namespace {

using Clock = std::chrono::steady_clock;

// After this, a connection without traffic gives back what it keeps to be fast.
constexpr int IDLE_MS = 1000;
// How long a stopping server lets a client go on sending what it has begun.
constexpr auto STOP_GRACE = std::chrono::seconds(1);

} // namespace

PendingRequest *Intake::next() {
  if (std::exchange(has_to_wait_, false))
    expects_input_ = true;
  for (;;) {
    PendingRequest *request = nullptr;
    switch (reader_.next(&request)) {
    case RequestReader::Outcome::request:
      return request;
    case RequestReader::Outcome::needs_input:
      if (!receive())
        return nullptr;
      break;
    case RequestReader::Outcome::needs_memory:
      if (!waits_.wait_for_memory())
        return reader_.end(true), nullptr;
      break;
    case RequestReader::Outcome::ended:
      return nullptr;
    }
  }
}

// Receives something, or waits until that is worth a try. False: the reader is to be left as it is,
// since the connection waits elsewhere or ends.
bool Intake::receive() {
  const bool between_requests = reader_.is_between_requests();
  if (has_stopped(between_requests))
    return false;
  // All that was asked so far has been answered or is being worked on: let the client know.
  replies_.flush(when_full_);
  if (!expects_input_ && waits_in_poller(between_requests))
    return false;
  RequestReader::Received received = receive_and_answer();
  if (received == RequestReader::Received::nothing) {
    if (waits_in_poller(between_requests))
      return false;
    if (!stop_deadline_ && !replies_.is_full())
      spinner_.spin([&] {
        received = receive_and_answer();
        return received != RequestReader::Received::nothing;
      });
  }
  return received != RequestReader::Received::nothing || wait_for_more(between_requests);
}

// Before anything is waited for: what came may be no request, but ask for an answer all the same.
RequestReader::Received Intake::receive_and_answer() {
  const RequestReader::Received received = reader_.receive();
  expects_input_ = reader_.may_have_left_input();
  if (received == RequestReader::Received::nothing && transport_.has_answers())
    replies_.flush(when_full_);
  return received;
}

// The server stops, and the client has had the time to send what it had begun.
bool Intake::has_stopped(bool between_requests) {
  if (stop_deadline_)
    return between_requests && Clock::now() >= *stop_deadline_;
  if (stop_requested_.load(std::memory_order_relaxed))
    stop_deadline_ = Clock::now() + STOP_GRACE;
  return false;
}

bool Intake::waits_in_poller(bool between_requests, bool has_idled) {
  has_to_wait_ = between_requests && !stop_deadline_ && !replies_.is_full() &&
                 waits_.waits_in_poller(has_idled);
  return has_to_wait_;
}

// Nothing has arrived: waits for it. False: it is not to be waited for here.
bool Intake::wait_for_more(bool between_requests) {
  if (!stop_deadline_) {
    const transport::Wait result = wait_for_client(between_requests);
    if (result == transport::Wait::stopping)
      stop_deadline_ = Clock::now() + STOP_GRACE;
    if (result == transport::Wait::timed_out && reader_.is_in_pages())
      reader_.leave_pages();
    return !has_to_wait_;
  }
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(*stop_deadline_ - Clock::now());
  if (!between_requests && left.count() > 0 &&
      transport_.wait({.input = true, .room = replies_.is_full()},
                      static_cast<int>(left.count())) != transport::Wait::timed_out)
    return true;
  reader_.end(!between_requests);
  return false;
}

transport::Wait Intake::wait_for_client(bool between_requests) {
  const transport::Wanted wanted{.input = true, .room = replies_.is_full(), .stop = true};
  waits_.waits_here();
  const bool owes_input = !between_requests;
  for (;;) {
    const transport::Wait result = waits_.wait(wanted, IDLE_MS, owes_input);
    if (result != transport::Wait::timed_out)
      return result;
    const bool is_all = waits_.has_idled();
    requests_.release_idle_memory(); // not the input, which this is in the middle of
    if (reader_.is_in_pages() || waits_in_poller(between_requests, true))
      return result;
    if (is_all)
      return waits_.wait(wanted, -1, owes_input);
  }
}

} // namespace asyncnbd::nbd
