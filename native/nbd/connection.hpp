// One client's transmission phase, from the end of the handshake until all is closed.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "host/reply_batch.hpp"
#include "nbd/check.hpp"
#include "nbd/client_context.hpp"
#include "nbd/client_waits.hpp"
#include "nbd/failure.hpp"
#include "nbd/latency_counters.hpp"
#include "nbd/memory_account.hpp"
#include "nbd/reply_queue.hpp"
#include "nbd/request_counters.hpp"
#include "nbd/request_reader.hpp"
#include "nbd/resources.hpp"
#include "nbd/sparse_hint.hpp"
#include "schedule/call_latency.hpp"
#include "schedule/pollable.hpp"
#include "transport/transport.hpp"

namespace asyncnbd::nbd {

struct TransmissionSettings {
  uint16_t flags;       // NBD_FLAG_*, as the client was told
  unsigned max_threads; // calls in progress at once, if the thread model allows more than one
  unsigned spin_us;     // how long to look for requests before sleeping
  // How long requests that stay unanswered keep a connection that has ended otherwise.
  std::chrono::milliseconds grace;
  // How long a client may be waited for that does not go on; 0: for ever.
  std::chrono::milliseconds stall_timeout;
  uint64_t max_bytes;                                // in flight on this connection
  std::shared_ptr<base::MemoryBudget> server_budget; // in flight on all, or nullptr
  wire::ReplyStyle style = wire::ReplyStyle::simple;
  std::vector<MetaContext> contexts{}; // negotiated
  uint32_t block_bytes = 1;            // see ExportFacts
  uint32_t max_payload_bytes = wire::MAX_PAYLOAD_BYTES;
  bool has_shortcuts = true;                    // reservations, and data in pages
  std::shared_ptr<LatencyCounters> latencies{}; // the export's; nullptr: nobody counts them
};

class Connection final : public std::enable_shared_from_this<Connection>,
                         private backend::Maker,
                         public host::BatchMember,
                         public schedule::Receiver,
                         private Admission,
                         private ReplyListener,
                         private base::MemoryBudget::Waiter,
                         private schedule::SlowCallListener,
                         private schedule::Pollable {
public:
  // Gets what is closed.
  using OnClosed = std::function<void(std::shared_ptr<const Connection>)>;

  Connection(Resources &resources, std::shared_ptr<ClientContext> client)
      : resources_(resources), runtime_(resources.runtime), client_(std::move(client)),
        leader_token_(runtime_.slow_calls), latency_(runtime_.clock) {}

  // Serves requests until the client leaves, the stream breaks or the server stops, on threads
  // of its own. `on_closed` is called at the very end, on one of them. Takes the transport and
  // the backend, and keeps itself alive. False, with nothing taken, if the system has no thread
  // or no descriptor left.
  bool start(std::unique_ptr<transport::Transport> *transport,
             std::unique_ptr<backend::Backend> *backend, const TransmissionSettings &settings,
             OnClosed on_closed);

  // Graceful end: answers what has arrived, then closes. Any thread, once started.
  void stop();
  // The same, and all of it within so long from now, instead of the settings' grace.
  void stop(std::chrono::milliseconds grace);

  // What has come so far, and what of it has no reply that has left. Any thread.
  const RequestCounters &counters() const { return counters_; }
  uint32_t in_flight() const { return live_.load(std::memory_order_relaxed); }

  // Why the connection failed. When all is closed.
  const Failure &failure() const { return failure_; }

  const ClientContext &client() const { return *client_; }

  // Immediate end: nothing more is sent. Any thread, once started.
  void abort();

  // Receiver
  size_t unread_bytes() const override { return transport_->unread_bytes(); }

private:
  // Replies are sent when this much is queued: more would not stay in the L2 cache.
  static constexpr size_t FLUSH_BYTES = 128 << 10;
  // From here on, half of what the client has asked is sent while the other half is worked on: else
  // server and client would wait for each other in turn.
  static constexpr size_t HALF_FLUSH_BYTES = FLUSH_BYTES / 2;
  // The connection that the calling thread leads, or led until its current call was passed on: it
  // will flush after the call, so completions inside need not.
  static constinit thread_local const Connection *led_;

  // backend::Maker
  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  void release(backend::Request &request) override;
  bool client_has_gone() const override;
  // host::BatchMember
  void send_batch() override { replies_->flush(WhenFull::wake_leader); }
  // Admission
  bool admit(MemoryCharge &charge, uint64_t bytes) override;
  void withdraw(const MemoryCharge &charge) override { memory_->give_back(charge); }
  transport::Wait wait(transport::Wanted wanted, int timeout_ms, bool owes_input) override {
    return waits_->wait(wanted, timeout_ms, owes_input, false);
  }
  bool waits_in_poller(bool has_idled) override;
  void waits_here() override;
  backend::Reservation reserve(backend::Request &request) override;
  void unreserve(backend::Request &request) override { backend_->unreserve(request); }
  bool has_idled() override;
  void on_failure(const std::string &reason) override {
    failure_.note(reason);
  } // ReplyListener's, too
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    const uint32_t reply_bytes = type == wire::NBD_CMD_BLOCK_STATUS ? EXPECTED_STATUS_BYTES : 0;
    return backend_->bytes_besides(type, length_bytes) + reply_bytes;
  }
  // ReplyListener
  void on_sent(PendingRequest *first, uint32_t count) override;
  void on_taken(const PendingRequest *first) override;
  void on_full() override { transport_->wake(); }
  bool delays_others() const override { return schedule::IdlePoller::delays_others(); }
  void before_delay() override;
  void wait_for_room() override { waits_->wait_for_room(); }
  // MemoryBudget::Waiter
  void on_room() override { transport_->wake(); }
  // SlowCallListener
  bool on_slow_call(uint64_t call) override;
  // Pollable
  Turn resume() override;
  bool release_idle_memory() override;

  // Why a thread leads no longer.
  enum class LeaderExit {
    replaced, // another thread leads
    released, // the connection waits, or is another thread's already: it must not be touched
    finished, // the connection has ended
  };
  static void lead_on_pool(std::shared_ptr<Connection> self);
  void lead();
  LeaderExit lead_until_handed_over();
  bool wait_for_client();
  bool is_to_wait_in_poller(bool has_idled);
  void suspend_input();
  void begin_turn();
  bool is_long_turn() const;
  bool execute(PendingRequest *request);
  void use_sparse_hint(PendingRequest *request);
  static bool may_be_sparse(const PendingRequest &request);
  // What the leader does when the socket is full. Where its calls return at once, it must not stop
  // reading because the client is slow to take earlier replies: requests that wait in the socket
  // would all begin at the same time later.
  WhenFull when_full() const { return answers_later_ ? WhenFull::return_early : WhenFull::wait; }
  bool is_worth_sending() const;
  bool send();
  bool is_worth_another_thread() const;
  void hand_over(uint64_t call);
  bool take_over_from_slow_thread();
  void send_for_slow_thread();
  int refusal(const PendingRequest &request) const;
  std::chrono::milliseconds grace() const {
    return std::chrono::milliseconds(grace_ms_.load(std::memory_order_relaxed));
  }
  std::chrono::milliseconds time_to_close() const;
  void charge_encoded(PendingRequest &request);
  void answer(PendingRequest *request);
  bool send_borrowed(PendingRequest *request);
  void dispose(PendingRequest *first, PendingRequest *last, const MemoryCharge &charge);
  template <typename Condition> bool wait_until(Condition condition, bool is_ending);
  void tell_backend(bool client_has_gone, bool server_stops);
  void end();
  void finish();
  void report_failure(const PendingRequest &request);

  Resources &resources_;
  schedule::Runtime &runtime_;
  const std::shared_ptr<ClientContext> client_;
  ExportFacts facts_{};
  bool may_send_holes_ = false;
  bool may_pipe_ = false;
  bool system_receives_ = false; // into any memory, and nobody before it
  bool may_reserve_ = true;
  SparseHint sparse_hint_;
  std::atomic<int64_t> grace_ms_{0};                              // a setting, pairs with nothing
  std::atomic<int64_t> stop_by_ms_{INT64_MAX};                    // of the clock; as the grace
  std::optional<std::chrono::steady_clock::time_point> deadline_; // the leader's, of all waiting
  std::shared_ptr<base::MemoryBudget> server_budget_;
  std::optional<MemoryAccount> memory_;
  std::unique_ptr<transport::Transport> transport_;
  std::unique_ptr<backend::Backend> backend_;
  std::unique_ptr<ReplyQueue> replies_;
  std::unique_ptr<RequestReader> reader_; // the leader's
  std::optional<ClientWaits> waits_;
  OnClosed on_closed_;
  Failure failure_;
  std::shared_ptr<Connection> self_; // until finish

  schedule::LeaderToken leader_token_;
  schedule::CallLatency latency_;
  // With the idle poller; set by the leader. Pairs with stop_requested_: see stop. Release, acquire
  // in on_slow_call: the detector sees what it refers to.
  std::atomic<schedule::Registration *> registration_{nullptr};
  // The leader's.
  bool can_be_polled_ = true;
  bool keeps_thread_ = false; // until it has idled: others would have had to wait for it
  uint64_t turn_ends_at_requests_ = UINT64_MAX; // see counters_
  uint64_t turn_ends_at_bytes_ = UINT64_MAX;    // read and written
  uint64_t slow_call_ = 0;                      // the detector's
  base::Time slow_call_seen_at_;                // first
  bool knows_of_stop_ = false;                  // the backend
  unsigned max_threads_ = 1;
  bool answers_later_ = false;
  bool has_worked_ = false; // the leader's: replies that are queued have taken time to make
  std::atomic<unsigned> threads_{0}; // a count, pairs with nothing
  // Requests whose replies have not left. Its decrement pairs with the load that finds 0: then
  // nobody sends any more. Pairs with leader_waits_, too: see wait_until.
  std::atomic<uint32_t> live_{0};

  std::atomic<bool> leader_waits_{false}; // and wants to be woken when replies have left
  // send_for_slow_thread is at it. Pairs with nothing: the send right orders what it does.
  std::atomic<bool> is_sending_{false};
  std::atomic<bool> client_has_left_{false};   // a hint to plugins, pairs with nothing
  std::atomic<bool> stop_requested_{false};    // pairs with registration_: see stop
  std::atomic<unsigned> failures_reported_{0}; // a count, pairs with nothing

  RequestCounters counters_;
  std::shared_ptr<LatencyCounters> latencies_; // of all connections, or nullptr
  size_t latencies_place_ = 0;
};

} // namespace asyncnbd::nbd
