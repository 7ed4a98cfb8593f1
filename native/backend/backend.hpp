// The one contract between connections and what serves them: submit a request; it is completed
// exactly once, from any thread, before or after submit returns. Layers between the two keep it
// both ways.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "backend/request.hpp"

namespace asyncnbd::backend {

// The values of NBDKIT_FUA_* and NBDKIT_CACHE_*, and for zeroing the same three steps.
enum class Support : uint8_t { none = 0, emulate = 1, native = 2 };

// Block sizes in bytes ("Block size constraints"); all 0 when the export has none to tell.
struct BlockSizes {
  uint32_t minimum = 0;
  uint32_t preferred = 0;
  uint32_t maximum = 0;
};

// What an open export can do. Fixed from open to close.
struct Capabilities {
  uint64_t size_bytes = 0;
  bool can_write = false;
  bool can_flush = false;
  bool is_rotational = false;
  bool can_trim = false;
  bool can_fast_zero = false;
  bool can_multi_conn = false;
  bool serializes_connections = false; // a second one of a client would wait for the first
  bool can_extents = false;
  // Whether extents may be asked for before a read, for what of it need not be read at all.
  bool has_sparse_reads = false;
  Support zero = Support::none;
  Support fua = Support::none;
  Support cache = Support::none;
};

// What a backend leaves to the emulation directly above it.
struct CallLimits {
  uint64_t longest_range_bytes = UINT64_MAX; // of a trim, zeroing, cache or block status
  bool takes_one_context = false;            // in a block status
  uint32_t without_fua = 0;  // bits 1 << NBD_CMD_*: what cannot be durable though `fua` is native
  bool emulates_fua = false; // there is another emulation below, which sees to that
};

// How many calls a backend stands at once; the numbers are nbdkit's.
enum class ThreadModel : int {
  serialize_connections = 0,
  serialize_all_requests = 1,
  serialize_requests = 2,
  parallel = 3,
  async = 4, // not nbdkit's: a call may be answered after it has returned
};

// What Backend::reserve answers.
struct Reservation {
  uint8_t *data = nullptr;  // nullptr: there is none
  bool takes_pages = false; // of a write without: its data had best be in pages
  // Of a write: `data` is no part of the disk, but the memory that bytes_besides has for a copy.
  bool spares_copy = false;
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

  virtual const Capabilities &capabilities() const = 0;
  virtual ThreadModel thread_model() const = 0;
  // A layer above the emulation has none.
  virtual CallLimits call_limits() const { return {}; }
  // For clients; "": none. Before the first request, as is block_sizes; both may block.
  virtual std::string description() { return {}; }
  // False: it failed, and why has been logged.
  virtual bool block_sizes(BlockSizes *sizes) {
    (void)sizes;
    return true;
  }

  // Between open and the first use, and between the last request and close; both block. What can
  // be asked of an export is known once it is prepared. False: it failed, which has been logged,
  // and what follows is close.
  virtual bool prepare() { return true; }
  virtual bool finalize() { return true; }

  // Before the request is submitted: where it is done without a copy. For a read that needs nothing
  // else, where its data lie: it has been answered then, and is only submitted if it may have
  // holes. For a write, where its data may be received: they may be on the disk before it is
  // submitted, so who might refuse or change it must not pass a reservation on. Returns at once,
  // and waits for no memory; any thread. What a layer changes of the request it restores.
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

  // Any thread, but no more at once than thread_model allows; not from inside a completion.
  virtual void submit(Request &request, Caller caller) = 0;

  // The client will not see what is in flight answered, nor what is yet submitted. Must not block.
  virtual void on_client_gone() {}
  // The server stops: nothing need wait for its time, now or later. Must not block.
  virtual void on_server_stopping() {}

  // After the last submit: gives up what is in flight and waits for an answer from outside,
  // having logged what that is. Calls that block are not meant. A layer fails what waits in it,
  // then asks those below.
  virtual void give_up_unanswered() = 0;

  // The client has sent nothing for long: what is not in use can go. Any thread; must not block.
  virtual void release_idle_memory() {}

  // The last call, when no request is outstanding. May block.
  virtual void close() = 0;
  // Instead of close, if there has been no request: by the thread on which it was made, so it must
  // not wait for that.
  virtual void close_unused() { close(); }

  // Once: what its layers use of others stays until they are gone.
  void keep(std::shared_ptr<const void> needed) { needed_ = std::move(needed); }

private:
  std::shared_ptr<const void> needed_;
};

} // namespace asyncnbd::backend
