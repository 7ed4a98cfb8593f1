// Gets a connection's leader the client's next request: what is ready is sent before anything is
// waited for, and the wait is a short spin, a sleep here, or one without a thread.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>

#include "nbd/reply_queue.hpp"
#include "nbd/request_reader.hpp"
#include "schedule/spinner.hpp"

namespace asyncnbd::nbd {

// How a leader waits.
class LeaderWaits {
public:
  virtual ~LeaderWaits() = default;
  // Whether the leader, when it has to wait for the client's next request, is to do so without a
  // thread. `has_idled`: it has waited for long already.
  virtual bool waits_in_poller(bool has_idled) = 0;
  // It will wait for the client here.
  virtual void waits_here() = 0;
  // As Transport::wait, but may come back earlier, and a client that is too slow is cut.
  // `owes_input`: it has begun a request.
  virtual transport::Wait wait(transport::Wanted wanted, int timeout_ms, bool owes_input) = 0;
  // It has waited for long: memory that is not in use is to go. False: requests are in flight, so
  // that there may be more later.
  virtual bool has_idled() = 0;
  // Until the reader may go on, as admission may give it memory. False: the connection is to end.
  virtual bool wait_for_memory() = 0;
};

// Belongs to whoever leads the connection.
class Intake {
public:
  struct Parts {
    transport::Transport &transport;
    RequestReader &reader;
    RequestPool &requests;
    ReplyQueue &replies;
    LeaderWaits &waits;
    const std::atomic<bool> &stop_requested;
  };
  // If it is to come back when the socket is full, it goes on reading meanwhile.
  Intake(const Parts &parts, schedule::Spinner spinner, WhenFull when_full)
      : parts_(parts), spinner_(spinner), when_full_(when_full) {}

  // The next request. nullptr when there will be none, as the client leaves, or the server stops;
  // or when `has_to_wait`.
  PendingRequest *next();
  // Before a turn on a loop: whatever was known of the client's input, it is looked for.
  void look_again() { expects_input_ = true; }
  // The same as next, but does not wait. nullptr also when it would have to, for more than the
  // client's input, unless `has_to_wait`.
  PendingRequest *next_at_once();

  // The last call found no request. When the client has sent something, or there is another reason
  // to look again, the next one goes on.
  bool has_to_wait() const { return has_to_wait_; }

private:
  bool receive();
  bool receive_at_once();
  RequestReader::Received receive_and_answer();
  bool has_stopped(bool between_requests);
  bool waits_in_poller(bool between_requests, bool has_idled = false);
  bool wait_for_more(bool between_requests);
  transport::Wait wait_for_client(bool between_requests);

  const Parts parts_;
  schedule::Spinner spinner_;
  const WhenFull when_full_;

  bool expects_input_ = true; // to be there, when it looks for it
  bool has_to_wait_ = false;
  std::optional<std::chrono::steady_clock::time_point> stop_deadline_;
};

} // namespace asyncnbd::nbd
