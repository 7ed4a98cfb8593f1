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
    switch (parts_.reader.next(&request)) {
    case RequestReader::Outcome::request:
      return request;
    case RequestReader::Outcome::needs_input:
      if (!receive())
        return nullptr;
      break;
    case RequestReader::Outcome::needs_memory:
      if (!parts_.waits.wait_for_memory())
        return parts_.reader.end(true), nullptr;
      break;
    case RequestReader::Outcome::ended:
      return nullptr;
    }
  }
}

PendingRequest *Intake::next_at_once() {
  if (std::exchange(has_to_wait_, false))
    expects_input_ = true;
  for (;;) {
    PendingRequest *request = nullptr;
    const RequestReader::Outcome outcome = parts_.reader.next(&request);
    if (outcome == RequestReader::Outcome::request)
      return request;
    if (outcome != RequestReader::Outcome::needs_input || !receive_at_once())
      return nullptr;
  }
}

// False: there is nothing now.
bool Intake::receive_at_once() {
  parts_.replies.flush(when_full_);
  if (stop_deadline_ || parts_.stop_requested.load(std::memory_order_relaxed) ||
      parts_.replies.is_full())
    return false;
  has_to_wait_ = !expects_input_ || receive_and_answer() == RequestReader::Received::nothing;
  return !has_to_wait_;
}

// Receives something, or waits until that is worth a try. False: the reader is to be left as it is,
// since the connection waits elsewhere or ends.
bool Intake::receive() {
  const bool between_requests = parts_.reader.is_between_requests();
  if (has_stopped(between_requests))
    return false;
  // All that was asked so far has been answered or is being worked on: let the client know.
  parts_.replies.flush(when_full_);
  if (!expects_input_ && waits_in_poller(between_requests))
    return false;
  RequestReader::Received received = receive_and_answer();
  if (received == RequestReader::Received::nothing) {
    if (waits_in_poller(between_requests))
      return false;
    if (!stop_deadline_ && !parts_.replies.is_full())
      spinner_.spin([&] {
        received = receive_and_answer();
        return received != RequestReader::Received::nothing;
      });
  }
  return received != RequestReader::Received::nothing || wait_for_more(between_requests);
}

// Before anything is waited for: what came may be no request, but ask for an answer all the same.
RequestReader::Received Intake::receive_and_answer() {
  const RequestReader::Received received = parts_.reader.receive();
  expects_input_ = parts_.reader.may_have_left_input();
  if (received == RequestReader::Received::nothing && parts_.transport.has_answers())
    parts_.replies.flush(when_full_);
  return received;
}

// The server stops, and the client has had the time to send what it had begun.
bool Intake::has_stopped(bool between_requests) {
  if (stop_deadline_)
    return between_requests && Clock::now() >= *stop_deadline_;
  if (parts_.stop_requested.load(std::memory_order_relaxed))
    stop_deadline_ = Clock::now() + STOP_GRACE;
  return false;
}

bool Intake::waits_in_poller(bool between_requests, bool has_idled) {
  has_to_wait_ = between_requests && !stop_deadline_ && !parts_.replies.is_full() &&
                 parts_.waits.waits_in_poller(has_idled);
  return has_to_wait_;
}

// Nothing has arrived: waits for it. False: it is not to be waited for here.
bool Intake::wait_for_more(bool between_requests) {
  if (!stop_deadline_) {
    const transport::Wait result = wait_for_client(between_requests);
    if (result == transport::Wait::stopping)
      stop_deadline_ = Clock::now() + STOP_GRACE;
    if (result == transport::Wait::timed_out && parts_.reader.is_in_pages())
      parts_.reader.leave_pages();
    return !has_to_wait_;
  }
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(*stop_deadline_ - Clock::now());
  if (!between_requests && left.count() > 0 &&
      parts_.transport.wait({.input = true, .room = parts_.replies.is_full()},
                            static_cast<int>(left.count())) != transport::Wait::timed_out)
    return true;
  parts_.reader.end(!between_requests);
  return false;
}

transport::Wait Intake::wait_for_client(bool between_requests) {
  const transport::Wanted wanted{.input = true, .room = parts_.replies.is_full(), .stop = true};
  parts_.waits.waits_here();
  const bool owes_input = !between_requests;
  for (;;) {
    const transport::Wait result = parts_.waits.wait(wanted, IDLE_MS, owes_input);
    if (result != transport::Wait::timed_out)
      return result;
    const bool is_all = parts_.waits.has_idled();
    parts_.requests.release_idle_memory(); // not the input, which this is in the middle of
    if (parts_.reader.is_in_pages() || waits_in_poller(between_requests, true))
      return result;
    if (is_all)
      return parts_.waits.wait(wanted, -1, owes_input);
  }
}

} // namespace asyncnbd::nbd
