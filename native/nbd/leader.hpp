// Who leads a connection: reads the client's requests and has the backend carry them out. Its
// thread, another one when a call is slow, none while it waits for its client, or the one of the
// backend's event loop.
#pragma once

#include <atomic>
#include <functional>

#include "nbd/answer_waits.hpp"
#include "nbd/client_waits.hpp"
#include "nbd/completions.hpp"
#include "nbd/intake.hpp"
#include "nbd/loop_place.hpp"
#include "nbd/poll_place.hpp"
#include "nbd/request_admission.hpp"
#include "nbd/transmission.hpp"
#include "schedule/call_latency.hpp"
#include "schedule/leader_token.hpp"
#include "schedule/pollable.hpp"
#include "schedule/slow_call_detector.hpp"

namespace asyncnbd::nbd {

class Leader final : private schedule::SlowCallListener, private schedule::Pollable {
public:
  struct Parts {
    Transmission &shared;
    RequestAdmission &admission;
    RequestReader &reader;
    Completions &completions;
    ClientWaits &client_waits;
    PollPlace &place;
    LoopPlace &loop;
    schedule::CallLatency &latency;
  };
  // `on_end` is called at the end, by the last who leads, when nothing is in flight any more.
  Leader(const Parts &parts, std::function<void()> on_end);

  // Leads on a thread of the pool. False, and nothing has begun, if the system has none.
  bool start();
  // Nothing is called slow any more. At the end, as well as after a start that has failed.
  void stop_noticing();

private:
  // The leader's way to wait for the client.
  class Waits final : public LeaderWaits {
  public:
    explicit Waits(Leader &leader) : leader_(leader) {}
    bool waits_in_poller(bool has_idled) override;
    void waits_here() override;
    transport::Wait wait(transport::Wanted wanted, int timeout_ms, bool owes_input) override;
    bool has_idled() override;
    bool wait_for_memory() override;

  private:
    Leader &leader_;
  };

  // SlowCallListener
  bool on_slow_call(uint64_t call) override;
  // Pollable
  Turn resume() override;
  bool release_idle_memory() override;

  // Why a thread leads no longer.
  enum class Exit {
    replaced, // another thread leads
    released, // the connection waits, or is another thread's already: it must not be touched
    finished, // the connection has ended
  };
  void lead_on_pool(std::shared_ptr<void> life);
  void lead();
  Exit lead_until_handed_over();
  bool wait_for_client();
  void begin_turn();
  bool is_long_turn() const;
  bool execute(PendingRequest *request);
  bool needs_backend(PendingRequest *request);
  bool call_backend(PendingRequest *request);
  bool may_answer_in_pages(const PendingRequest &request) const;
  backend::Caller caller() const;
  int refusal(const PendingRequest &request) const;
  void use_sparse_hint(PendingRequest *request);
  // What it does when the socket is full. Where the backend's calls return at once, it must not
  // stop reading because the client is slow to take earlier replies: requests that wait in the
  // socket would all begin at the same time later.
  WhenFull when_full() const {
    return shared_.answers_later ? WhenFull::return_early : WhenFull::wait;
  }
  bool is_worth_sending() const;
  bool send();
  void end();

  bool move_to_loop();
  // What the leader does when it has had its turn on a loop.
  enum class AfterTurn {
    waits_for_client,
    waits_for_turn, // there is more to do
    leaves,         // for a thread that may wait
  };
  void lead_on_loop();
  AfterTurn lead_at_once();
  bool may_wait_on_loop();
  void leave_loop();

  bool is_worth_another_thread() const;
  void hand_over(uint64_t call);
  bool take_over_from_slow_thread();
  void send_for_slow_thread();

  Transmission &shared_;
  RequestAdmission &admission_;
  RequestReader &reader_;
  Completions &completions_;
  ClientWaits &client_waits_;
  PollPlace &place_;
  LoopPlace &loop_;
  schedule::CallLatency &latency_;
  const std::function<void()> on_end_;
  AnswerWaits answer_waits_;
  Waits waits_{*this};
  Intake intake_;

  schedule::LeaderToken token_;
  std::atomic<unsigned> threads_{0}; // a count, pairs with nothing
  // send_for_slow_thread is at it. Pairs with nothing: the send right orders what it does.
  std::atomic<bool> is_sending_{false};

  // The leader's.
  bool has_worked_ = false;                     // replies that are queued have taken time to make
  uint64_t turn_ends_at_requests_ = UINT64_MAX; // see RequestCounters
  uint64_t turn_ends_at_bytes_ = UINT64_MAX;    // read and written

  // The loop's: which request was not whole when a turn ended, and since when.
  uint64_t waited_for_request_ = 0;
  base::Time waits_since_;

  // The detector's.
  uint64_t slow_call_ = 0;
  base::Time slow_call_seen_at_; // first
};

} // namespace asyncnbd::nbd
