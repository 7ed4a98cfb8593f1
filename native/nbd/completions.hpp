// What becomes of one connection's requests once they are answered: the reply is made, queued and
// sent, and all that the request had goes back.
#pragma once

#include <atomic>
#include <memory>

#include "host/reply_batch.hpp"
#include "nbd/client_waits.hpp"
#include "nbd/memory_account.hpp"
#include "nbd/poll_place.hpp"
#include "nbd/reply_queue.hpp"
#include "nbd/request_pool.hpp"
#include "nbd/transmission.hpp"
#include "schedule/send_ahead_limit.hpp"

namespace asyncnbd::nbd {

// Any thread, unless a function says more.
class Completions final : private backend::Maker, private ReplyListener {
public:
  // Replies are sent when this much is queued: more would not stay in the L2 cache.
  static constexpr size_t FLUSH_BYTES = 128 << 10;

  Completions(Transmission &transmission, MemoryAccount &memory, ClientWaits &waits,
              PollPlace &place);

  RequestPool &requests() { return requests_; }
  ReplyQueue &replies() { return replies_; }

  // By the leader: from now on, the request is in flight until its reply has left.
  void begin(PendingRequest &request);
  // What has no reply that has left.
  uint32_t in_flight() const { return live_.load(std::memory_order_relaxed); }
  // The sequentially consistent load that finds 0: nobody sends any more.
  bool is_all_sent() const { return live_.load() == 0; }
  // A request that no backend has seen gets its error. By the leader, like the next.
  void refuse(PendingRequest &request, int error);
  // Its data are where its answer says, and need no backend.
  void answer_at_once(PendingRequest &request) { push(&request); }

  // While it lives, the calling thread leads the connection, or has led it until its current call
  // was passed on: it will flush after the call, so that completions inside need not.
  class Leading {
  public:
    explicit Leading(const Completions &led) { led_ = &led; }
    ~Leading() { led_ = nullptr; }
    Leading(const Leading &) = delete;
    Leading &operator=(const Leading &) = delete;
  };

  // While it lives, the leader waits, and is woken when replies have left.
  class LeaderWaiting {
  public:
    explicit LeaderWaiting(Completions &completions) : completions_(completions) {
      // Sequentially consistent: either we see what on_sent has done, or it sees that we wait.
      completions_.leader_waits_.store(true);
    }
    ~LeaderWaiting() { completions_.leader_waits_.store(false); }
    LeaderWaiting(const LeaderWaiting &) = delete;
    LeaderWaiting &operator=(const LeaderWaiting &) = delete;

  private:
    Completions &completions_;
  };

  // As whom it is known to batches of replies, and to who limits what is sent ahead.
  class ReplyEnd final : public host::BatchMember, public schedule::Receiver {
  public:
    explicit ReplyEnd(Completions &completions) : completions_(completions) {}
    void send_batch() override { completions_.replies_.flush(WhenFull::wake_leader); }
    size_t unread_bytes() const override { return completions_.shared_.transport.unread_bytes(); }

  private:
    Completions &completions_;
  };
  std::shared_ptr<ReplyEnd> reply_end() { return {shared_.life, &reply_end_}; }

private:
  static constinit thread_local const Completions *led_;

  // backend::Maker
  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  void release(backend::Request &request) override;
  bool client_has_gone() const override;
  // ReplyListener
  void on_taken(const PendingRequest *first) override;
  void on_sent(PendingRequest *first, uint32_t count) override;
  void on_full() override { shared_.transport.wake(); }
  bool delays_others() const override { return schedule::IdlePoller::delays_others(); }
  void before_delay() override { place_.before_delay(); }
  void wait_for_room() override { waits_.wait_for_room(); }
  void on_failure(const std::string &reason) override { shared_.failure.note(reason); }

  void push(PendingRequest *request);
  void charge_encoded(PendingRequest &request);
  void answer(PendingRequest *request);
  bool send_borrowed(PendingRequest *request);
  void dispose(PendingRequest *first, PendingRequest *last, const MemoryCharge &charge);
  void report_failure(const PendingRequest &request);

  Transmission &shared_;
  MemoryAccount &memory_;
  ClientWaits &waits_;
  PollPlace &place_;
  RequestPool requests_;
  ReplyQueue replies_;
  ReplyEnd reply_end_{*this};
  const std::shared_ptr<LatencyCounters> latencies_; // of all connections, or nullptr
  const size_t latencies_place_;

  // Requests whose replies have not left. Its decrement pairs with the load that finds 0, and with
  // leader_waits_: see LeaderWaiting.
  std::atomic<uint32_t> live_{0};
  std::atomic<bool> leader_waits_{false};
  std::atomic<unsigned> failures_reported_{0}; // a count, pairs with nothing
};

} // namespace asyncnbd::nbd
