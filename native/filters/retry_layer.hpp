// The layer that retry puts in front of a client's open export.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "base/mutex.hpp"
#include "filters/repeating.hpp"
#include "filters/waiting.hpp"

namespace asyncnbd::filters {

struct RetrySettings {
  Repetition repetition;
  bool forces_readonly = false; // once something has failed
};

// How far a request has come.
struct Attempt {
  uint32_t retries = 0;    // begun
  uint32_t generation = 0; // of the backend that it was last submitted to
  int error = 0;           // its last error
};

class RetryLayer;
using RetriedRequests = WaitingRequests<Attempt, RetryLayer>;

// A request that waits until the export is open again.
struct HeldRequest {
  backend::Request *request;
  Attempt attempt;
  HeldRequest *next;
};

struct RetrySlabs {
  RetriedRequests::Slabs waiting;
  base::SlabsOf<HeldRequest> held;
};

// This is not a Layer, because the backend behind it is replaced. Other requests go on while one
// waits for its next try. When its time has come, further requests are held, those in flight end,
// and then a thread of the pool closes the export and opens it. If that fails, all held requests
// have failed once more.
class RetryLayer final : public backend::Backend, private backend::Completer {
public:
  RetryLayer(std::unique_ptr<backend::Backend> opened, const backend::Opening &opening,
             const RetrySettings &settings, const backend::Resources &resources, RetrySlabs &slabs);

  bool finalize() override;
  // Takes no reservations: memory that is lent is gone once the backend behind is closed, and a
  // write that may be submitted twice cannot be received in place.
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  void submit(backend::Request &request, backend::Caller) override { go({}, request); }
  void on_client_gone() override;
  void on_server_stopping() override;
  void give_up_unanswered() override;
  void release_idle_memory() override;
  void close() override;
  void close_unused() override;

private:
  friend RetriedRequests;

  enum class State : uint8_t {
    open,
    draining,  // waits for requests in flight and for users
    reopening, // a thread closes and opens it
    broken,    // it could not be opened, or could not be finalized
  };
  struct Refusal {
    int error = 0;         // 0: none
    bool is_final = false; // another try would change nothing
  };

  // Only once, at the beginning: clients cannot be told of changes.
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;

  // The way of a request.
  void go(Attempt attempt, backend::Request &request);
  bool is_held(Attempt attempt, backend::Request &request, Refusal *refusal);
  Refusal refusal_of(const backend::Request &request) const;
  void pass_on(Attempt attempt, backend::Request &request, backend::Backend &behind);
  void fail(Attempt attempt, backend::Request &request);
  Attempt pop(backend::Request &request);
  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  void on_time(backend::Request &request, Attempt attempt);
  static void on_over(backend::Request &request, Attempt attempt) {
    request.complete(attempt.error);
  }

  // Users of the backend behind.
  std::shared_ptr<backend::Backend> begin_use();
  void end_use();
  void end_flight();
  std::shared_ptr<backend::Backend> behind() const;

  // Requests that are held.
  bool hold(Attempt attempt, backend::Request &request);
  HeldRequest *take_held();
  static HeldRequest take_first(HeldRequest **list);
  static void answer_all(HeldRequest *list);
  void fail_all(HeldRequest *list, int error);
  void go_all(HeldRequest *list);

  // Closing and opening.
  bool begin_if_drained();
  void start_reopening();
  void reopen();
  bool is_over() const;
  bool close_behind();
  std::shared_ptr<backend::Backend> open_behind();
  HeldRequest *end_reopening(std::shared_ptr<backend::Backend> opened, bool is_tried);
  void tell_late();
  void end_waiting(bool gives_up);
  std::shared_ptr<backend::Backend> behind_at_rest();

  host::CallContext &context_;
  const bool is_readonly_;
  const backend::OpenBehind open_again_;
  const std::function<void()> give_up_opening_;
  const RetrySettings &settings_;       // owned by the filter
  const backend::Resources &resources_; // likewise
  RetrySlabs &slabs_;                   // likewise
  RetriedRequests waiting_;

  mutable base::Mutex<base::LockRank::retry> mutex_; // guards what follows
  base::Condition changed_;                          // for the thread that closes this layer
  std::shared_ptr<backend::Backend> behind_;         // nullptr: it is closed
  State state_ = State::open;
  size_t in_flight_ = 0;    // requests behind
  unsigned users_ = 0;      // threads that are in a call of the backend behind
  uint32_t generation_ = 0; // how often it has been opened anew
  unsigned reopenings_ = 0; // including those that failed
  bool is_over_ = false;    // nobody waits for another try
  bool client_is_gone_ = false;
  bool server_stops_ = false;
  HeldRequest *held_ = nullptr; // the last one first
};

} // namespace asyncnbd::filters
