// The one contract between connections and what serves them: submit a request; it is completed
// exactly once, from any thread, before or after submit returns. Layers in between keep the
// contract above and below.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/facts.hpp"
#include "backend/request.hpp"
#include "base/invariant.hpp"

namespace asyncnbd::backend {

// What Backend::reserve answers.
struct Reservation {
  uint8_t *data = nullptr;  // nullptr: there is none
  bool takes_pages = false; // of a write without `data`: pages are best for its payload
  // Of a write: `data` is not part of the disk, but the memory that bytes_besides counts for a
  // copy.
  bool spares_copy = false;
  // Of a write: `data` is memory of a file that only the system may write to. Any other access may
  // raise SIGBUS.
  bool is_file = false;
};

// Whether the thread that submits a request may wait until it is done. Timers, JavaScript and
// threads that bring replies must not.
enum class Caller : uint8_t { may_block, must_not_block };

// Requests are given up repeatedly until none is left, because one with several steps may be
// between two of them.
constexpr std::chrono::milliseconds GIVE_UP_AGAIN_AFTER{100};

// One export opened for one connection.
class Backend {
public:
  virtual ~Backend() = default;

  // Between open and the first use; a second call does nothing. Blocks, so not on JavaScript's
  // thread. False: it failed, with a message in `*error` unless it has been logged; close is next.
  bool prepare(const Wanted &wanted, std::string *error);
  bool is_prepared() const { return is_prepared_.load(std::memory_order_acquire); }
  // Only after prepare.
  const Facts &facts() const {
    base::invariant(is_prepared(), "facts of a backend are asked for once it is prepared");
    return facts_;
  }
  // Between the last request and close; blocks. False: it failed and has logged that.
  virtual bool finalize() { return true; }

  // Before the request is submitted: tells where it can be done without a copy. For a read that
  // needs nothing else, where its data lies: it is then answered, and is only submitted if it may
  // have holes. For a write, where its data may be received: it may be on the disk before the
  // submit, so a layer that might refuse or change the write must not pass the reservation on.
  // Returns at once, and does not wait for memory; any thread. A layer restores what it changes in
  // the request.
  virtual Reservation reserve(Request &request) {
    (void)request;
    return {};
  }
  // For a reserved write that will not be submitted after all.
  virtual void unreserve(Request &request) { (void)request; }

  // The memory that such a request takes, from submit to completion, in addition to itself and its
  // data. It is charged to the connection's budget.
  virtual uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const {
    (void)type, (void)length_bytes;
    return 0;
  }

  // Any thread, but no more at once than the thread model allows; not from inside a completion.
  virtual void submit(Request &request, Caller caller) = 0;

  // The client will see no more answers, neither to requests in flight nor to later ones. Must not
  // block.
  virtual void on_client_gone() {}
  // The server stops: delays need not be kept, now or later. Must not block.
  virtual void on_server_stopping() {}

  // After the last submit: gives up requests that wait for an answer from outside, and logs them.
  // Calls that block go on. A layer first fails the requests that wait in it, then asks the layer
  // below.
  virtual void give_up_unanswered() = 0;

  // The client has sent nothing for a while: frees memory that is not in use. Any thread; must not
  // block.
  virtual void release_idle_memory() {}

  // The last call, when no request is outstanding. May block.
  virtual void close() = 0;
  // Instead of close, if there was no request. Called on the thread that made the backend, so it
  // must not wait for that thread.
  virtual void close_unused() { close(); }

  // Before its first use: keeps objects that its layers use until the layers are gone.
  void keep(std::shared_ptr<const void> needed) { needed_.push_back(std::move(needed)); }

protected:
  // The work of prepare; called once.
  virtual bool collect(const Wanted &wanted, Facts *facts, std::string *error) = 0;

private:
  std::vector<std::shared_ptr<const void>> needed_;
  Facts facts_;
  Wanted wanted_; // set by prepare
  // The release pairs with the acquire of a thread that finds it set and then reads the facts.
  std::atomic<bool> is_prepared_{false};
};

inline bool Backend::prepare(const Wanted &wanted, std::string *error) {
  if (is_prepared()) {
    base::invariant(wanted_.includes(wanted), "a backend is prepared for all that is wanted of it");
    return true;
  }
  if (!collect(wanted, &facts_, error))
    return false;
  wanted_ = wanted;
  is_prepared_.store(true, std::memory_order_release);
  return true;
}

} // namespace asyncnbd::backend
