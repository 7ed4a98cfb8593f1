// The one contract between connections and what serves them: submit a request; it is completed
// exactly once, from any thread, before or after submit returns.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/sparse.hpp"
#include "transport/page_pipe.hpp"

namespace asyncnbd::backend {

struct Request;

// Who gets the answer of a request.
class Completer {
public:
  virtual ~Completer() = default;
  // `error` is 0 or an errno; for a read, 0 means that request.data is filled or request.lent
  // set. Waits for no client, except on a thread that is inside submit.
  virtual void complete(Request &request, int error) = 0;
  // Success of a read whose data is here, but only until the function returns.
  virtual void complete_with(Request &request, const uint8_t *data) = 0;

  // Instead of complete, for a request that someone else may go on using: it and its data stay
  // in memory until `release`.
  virtual void give_up(Request &request, int error) = 0;
  virtual void release(Request &request) = 0;

  // The client cannot be reached any more; completing is as necessary as before.
  virtual bool client_has_gone() const = 0;
};

// A read's data in memory of the backend's, which stay there until they are given back.
struct LentData {
  const uint8_t *data = nullptr;
  void (*give_back)(void *opaque) = nullptr; // any thread; nullptr: nobody waits for that
  void *opaque = nullptr;
};

// What a NBD_CMD_BLOCK_STATUS asks about one metadata context, and the answer.
struct ContextStatus {
  uint32_t id;                 // the client's for it
  uint32_t context;            // ALLOCATION, or the number of one of the backend's own from 1 on
  std::vector<Extent> extents; // set by the backend: from the request's offset on, at least one

  static constexpr uint32_t ALLOCATION = 0;
};

// What is unusual about a request, so that the usual need not be large.
struct RequestExtras {
  // Of a NBD_CMD_BLOCK_STATUS: the contexts to ask about.
  std::vector<ContextStatus> statuses;
  // Of a read that may have holes, set by the backend unless all of it is data: the parts it
  // consists of. The data of holes need not be there. With an error at `error_offset`, those
  // before.
  std::unique_ptr<std::vector<Run>> runs;
  // Set by the backend before it completes with an error, if it knows: words for the client, and
  // where it happened.
  std::string error_text;
  std::optional<uint64_t> error_offset;
};

// A request that has passed the connection's checks: the range lies inside the export and the
// export offers the command and its flags.
struct Request {
  Completer *completer;
  uint64_t offset;
  uint64_t length_bytes; // of a read or write, MAX_PAYLOAD_BYTES at most
  uint16_t type;         // NBD_CMD_*
  uint16_t flags;        // NBD_CMD_FLAG_*; FUA only on commands that write
  uint8_t *data;         // length_bytes to fill for a read, to store for a write; else nullptr
  LentData lent;     // a read's data, to be sent instead of `data`: from `lend` (then there is no
                     // `data`), or set by the backend before it completes the request
  bool may_be_piped; // a read's data may be put into `piped` instead of `data`
  transport::PagePipe::Owner piped; // if a write's data are here, there is no `data`
  bool may_have_holes;              // of a read: see RequestExtras::runs
  uint64_t data_until; // of such a read, set by the backend if it has found none: there is data up
                       // to this offset, behind its end too; 0: nobody knows
  std::unique_ptr<RequestExtras> extras;

  RequestExtras &make_extras() {
    if (!extras)
      extras = std::make_unique<RequestExtras>();
    return *extras;
  }

  // Of a read that may have holes: what the extents from its offset on say. False: it has none that
  // are worth it.
  bool note_extents(const std::vector<Extent> &extents) {
    if (auto runs = divide_read(extents, offset, static_cast<uint32_t>(length_bytes))) {
      make_extras().runs = std::move(runs);
      return true;
    }
    if (!extents.empty())
      data_until = offset + extents.front().length_bytes;
    return false;
  }

  void complete(int error) { completer->complete(*this, error); }
};

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
  bool can_extents = false;
  // Whether extents may be asked for before a read, for what of it need not be read at all.
  bool has_sparse_reads = false;
  Support zero = Support::none;
  Support fua = Support::none;
  Support cache = Support::none;
};

// How many calls a backend stands at once; the numbers are nbdkit's.
enum class ThreadModel : int {
  serialize_connections = 0,
  serialize_all_requests = 1,
  serialize_requests = 2,
  parallel = 3,
  async = 4, // not nbdkit's: a call may be answered after it has returned
};

// One export opened for one connection.
class Backend {
public:
  virtual ~Backend() = default;

  virtual const Capabilities &capabilities() const = 0;
  virtual ThreadModel thread_model() const = 0;

  // Where a read's data lie, if they may be sent from there, until close; else nullptr. Returns
  // at once; any thread.
  virtual const uint8_t *lend(uint64_t offset, uint32_t length_bytes) {
    (void)offset, (void)length_bytes;
    return nullptr;
  }

  // Where a write's data may be received, to be submitted from there; nullptr: anywhere. `unplace`
  // if they will not be submitted after all. Return at once; any thread.
  virtual uint8_t *place(uint64_t offset, uint32_t length_bytes) {
    (void)offset, (void)length_bytes;
    return nullptr;
  }
  virtual void unplace(uint64_t offset, uint32_t length_bytes) { (void)offset, (void)length_bytes; }

  // Whether the data of a large write had best be `piped`. Any thread.
  virtual bool takes_pages() const { return false; }

  // What such a request takes, from submit to its completion, besides itself and its data: the
  // connection's budget is charged with it.
  virtual uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const {
    (void)type, (void)length_bytes;
    return 0;
  }

  // May block; any thread, but no more at once than thread_model allows.
  virtual void submit(Request &request) = 0;

  // The client will not see what is in flight answered. After the last submit; must not block.
  virtual void on_client_gone() {}

  // After the last submit: gives up what is in flight and waits for an answer from outside,
  // having logged what that is. Calls that block are not meant.
  virtual void give_up_unanswered() = 0;

  // The last call, when no request is outstanding. May block.
  virtual void close() = 0;
  // Instead of close, if there has been no request: by the thread on which it was made, so it must
  // not wait for that.
  virtual void close_unused() { close(); }
};

} // namespace asyncnbd::backend
