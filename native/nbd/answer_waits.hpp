// One connection's leader waits for what other threads do: replies that leave, memory that comes
// back. No longer than the grace, once the client or the server ends.
#pragma once

#include <chrono>
#include <optional>

#include "nbd/client_waits.hpp"
#include "nbd/completions.hpp"
#include "nbd/poll_place.hpp"
#include "nbd/transmission.hpp"

namespace asyncnbd::nbd {

// By whoever leads the connection.
class AnswerWaits {
public:
  AnswerWaits(Transmission &transmission, Completions &completions, ClientWaits &waits,
              PollPlace &place)
      : shared_(transmission), completions_(completions), waits_(waits), place_(place) {}

  // Until the condition is met; sends meanwhile for those that may not block. False when it must
  // wait no longer: the grace has passed since the server stops or the client hung up.
  template <typename Condition> bool wait_until(Condition condition) {
    if (condition())
      return true;
    place_.waits_here();
    const Waiting waiting(*this);
    while (!condition()) {
      completions_.replies().flush(WhenFull::return_early);
      if (condition())
        break;
      if (!wait_once())
        return false;
    }
    return true;
  }

  // At the end, until every request is answered and its reply has left, or has been given up.
  void wait_for_last_answers();

  // What layers have wait for its time may be what is waited for.
  void tell_backend(bool client_has_gone, bool server_stops);

private:
  class Waiting {
  public:
    explicit Waiting(AnswerWaits &waits) : waits_(waits), waiting_(waits.completions_) {}
    ~Waiting() { waits_.waits_.has_not_received(); }
    Waiting(const Waiting &) = delete;
    Waiting &operator=(const Waiting &) = delete;

  private:
    AnswerWaits &waits_;
    Completions::LeaderWaiting waiting_;
  };

  bool wait_once();

  Transmission &shared_;
  Completions &completions_;
  ClientWaits &waits_;
  PollPlace &place_;
  std::optional<std::chrono::steady_clock::time_point> deadline_; // of all waiting
  bool knows_of_stop_ = false;                                    // the backend
};

} // namespace asyncnbd::nbd
