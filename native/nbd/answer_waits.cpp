// See answer_waits.hpp.
#include "nbd/answer_waits.hpp"

#include <cinttypes>
#include <utility>

#include "backend/timely_close.hpp"
#include "host/log.hpp"

namespace asyncnbd::nbd {

using Clock = std::chrono::steady_clock;

// False: the time is up.
bool AnswerWaits::wait_once() {
  using std::chrono::milliseconds;
  int timeout_ms = -1;
  if (deadline_) {
    const auto left = std::chrono::ceil<milliseconds>(*deadline_ - Clock::now());
    if (left.count() <= 0)
      return false;
    timeout_ms = static_cast<int>(left.count());
  }
  const transport::Wait event =
      waits_.wait({.input = false, .room = completions_.replies().is_full(), .stop = !deadline_},
                  timeout_ms, false, !deadline_);
  if (event == transport::Wait::stopping || event == transport::Wait::hung_up) {
    deadline_ = Clock::now() + shared_.grace();
    tell_backend(event == transport::Wait::hung_up, event == transport::Wait::stopping);
  }
  return true;
}

void AnswerWaits::wait_for_last_answers() {
  if (!deadline_)
    deadline_ = Clock::now() + shared_.grace();
  auto is_answered = [this] { return completions_.is_all_sent(); };
  if (wait_until(is_answered))
    return;
  host::log_error("%" PRIu32 " requests are unanswered after %.1f s", completions_.in_flight(),
                  static_cast<double>(shared_.grace().count()) / 1000);
  do {
    shared_.backend.give_up_unanswered();
    deadline_ = Clock::now() + backend::GIVE_UP_AGAIN_AFTER;
  } while (!wait_until(is_answered));
}

void AnswerWaits::tell_backend(bool client_has_gone, bool server_stops) {
  if (client_has_gone && !shared_.client_has_left.exchange(true, std::memory_order_relaxed))
    shared_.backend.on_client_gone();
  if (server_stops && !std::exchange(knows_of_stop_, true))
    shared_.backend.on_server_stopping();
}

} // namespace asyncnbd::nbd
