// The one contract between connections and what serves them: submit a request; it is completed
// exactly once, from any thread, before or after submit returns. Layers between the two keep it
// both ways.
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
  bool takes_pages = false; // of a write without `data`: its payload had best come in pages
  // Of a write: `data` is no part of the disk, but the memory that bytes_besides has for a copy.
  bool spares_copy = false;
  // Of a write: `data` is memory of a file, for the system alone to write to. Any other access
  // may raise SIGBUS.
  bool is_file = false;
};

// Whether the thread that submits a request may wait until it is done. Timers, JavaScript and
// threads that bring replies must not.
enum class Caller : uint8_t { may_block, must_not_block };

// Requests are given up again and again until none is left, as one that goes on in several steps
// may be between two of them.
constexpr std::chrono::milliseconds GIVE_UP_AGAIN_AFTER{100};

// One export opened for one connection.
class Backend {
public:
  virtual ~Backend() = default;

  // Between open and the first use; a second time, it does nothing. Blocks, so not on JavaScript's
  // thread. False: it failed, with words for the user in `*error` unless they have been logged, and
  // what follows is close.
  bool prepare(const Wanted &wanted, std::string *error);
  bool is_prepared() const { return is_prepared_.load(std::memory_order_acquire); }
  // Of a backend that is prepared.
  const Facts &facts() const {
    base::invariant(is_prepared(), "facts of a backend are asked for once it is prepared");
    return facts_;
  }
  // Between the last request and close; blocks. False: it failed, which has been logged.
  virtual bool finalize() { return true; }

  // Before the request is submitted: where it is done without a copy. For a read that needs nothing
  // else, where its data lie: it has been answered then, and is only submitted if it may have
  // holes. For a write, where its data may be received: they may be on the disk before it is
  // submitted, so a layer that might refuse or change it must not pass a reservation on. Returns at
  // once, and waits for no memory; any thread. What a layer changes of the request it restores.
  virtual Reservation reserve(Request &request) {
    (void)request;
    return {};
  }
  // Of a reserved write that will not be submitted after all.
  virtual void unreserve(Request &request) { (void)request; }

  // What such a request takes, from submit to its completion, besides itself and its data: the
  // connection's budget is charged with it.
  virtual uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const {
    (void)type, (void)length_bytes;
    return 0;
  }

  // Any thread, but no more at once than the thread model allows; not from inside a completion.
  virtual void submit(Request &request, Caller caller) = 0;

  // The client will not see what is in flight answered, nor what is yet submitted. Must not block.
  virtual void on_client_gone() {}
  // The server stops: nothing need wait for its time, now or later. Must not block.
  virtual void on_server_stopping() {}

  // After the last submit: gives up requests that wait for an answer from outside, and logs which.
  // Calls that block go on. A layer fails what waits in it, then asks those below.
  virtual void give_up_unanswered() = 0;

  // The client has sent nothing for long: what is not in use can go. Any thread; must not block.
  virtual void release_idle_memory() {}

  // The last call, when no request is outstanding. May block.
  virtual void close() = 0;
  // Instead of close, if there has been no request: by the thread on which it was made, so it must
  // not wait for that.
  virtual void close_unused() { close(); }

  // Before its first use: what its layers use of others stays until they are gone.
  void keep(std::shared_ptr<const void> needed) { needed_.push_back(std::move(needed)); }

protected:
  // What prepare does; once.
  virtual bool collect(const Wanted &wanted, Facts *facts, std::string *error) = 0;

private:
  std::vector<std::shared_ptr<const void>> needed_;
  Facts facts_;
  Wanted wanted_; // by who has prepared it
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
