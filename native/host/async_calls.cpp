// See async_calls.hpp. Also the nbdkit_async_reply functions.
#include "host/async_calls.hpp"

#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <utility>

#include "host/abi.hpp"
#include "host/log.hpp"
#include "host/thread_state.hpp"

namespace asyncnbd::host {

namespace {

// A plugin that gets one reply wrong may get thousands wrong.
constexpr unsigned MAX_COMPLAINTS = 10;

void complain(const void *conn, uint64_t id) {
  static std::atomic<unsigned> complaints{0}; // a count, pairs with nothing
  unsigned before = complaints.fetch_add(1, std::memory_order_relaxed);
  if (before >= MAX_COMPLAINTS && !log_is_verbose())
    return;
  log_error("a reply to a request that is not in flight (conn %p, reqid 0x%" PRIx64
            "): replied twice?%s",
            conn, id, before + 1 == MAX_COMPLAINTS ? " Further ones are not logged." : "");
}

} // namespace

AsyncCall::AsyncCall() : record_(calls().take()) {
  if (record_ != nullptr)
    record_->call = this;
}

AsyncCall::~AsyncCall() {
  if (record_ != nullptr)
    calls().put(*record_);
}

uint64_t AsyncCall::begin(const void *conn) {
  const uint64_t last = record_->word.load(std::memory_order_relaxed) >> CALL_STATE_BITS;
  const uint64_t number = (last + 1) & CALL_NUMBER_MASK;
  record_->conn.store(conn, std::memory_order_relaxed);
  // The release pairs with the acquire of the thread that ends the call, which then sees the
  // prepared record.
  record_->word.store(call_word(number, CallState::in_flight), std::memory_order_release);
  return number << CALL_INDEX_BITS | record_->index;
}

namespace {

// Ends the call with this number, if it is in that state.
bool end_call(CallRecord &record, uint64_t number, CallState state) {
  uint64_t expected = call_word(number, state);
  return record.word.compare_exchange_strong(expected, call_word(number, CallState::idle),
                                             std::memory_order_acq_rel);
}

} // namespace

bool AsyncCall::fail(uint64_t id) {
  return end_call(*calls().find(id), id >> CALL_INDEX_BITS, CallState::in_flight);
}

bool AsyncCall::give_up() {
  uint64_t word = record_->word.load(std::memory_order_acquire);
  const uint64_t number = word >> CALL_STATE_BITS;
  return word == call_word(number, CallState::in_flight) &&
         record_->word.compare_exchange_strong(word, call_word(number, CallState::given_up),
                                               std::memory_order_acq_rel);
}

int AsyncCall::reply(const void *conn, uint64_t id, const AsyncReply &reply) {
  CallRecord *record = calls().find(id);
  const uint64_t number = id >> CALL_INDEX_BITS;
  if (record != nullptr && record->conn.load(std::memory_order_relaxed) == conn) {
    if (end_call(*record, number, CallState::in_flight))
      return record->call->on_reply(reply);
    if (end_call(*record, number, CallState::given_up)) {
      record->call->on_late_reply();
      if (reply.release != nullptr)
        reply.release(reply.opaque);
      return ESHUTDOWN;
    }
  }
  complain(conn, id);
  if (reply.release != nullptr)
    reply.release(reply.opaque);
  return EINVAL;
}

} // namespace asyncnbd::host

using namespace asyncnbd::host;

namespace {

int reply(void *conn, uint64_t reqid, const AsyncReply &reply) {
  const int error = AsyncCall::reply(conn, reqid, reply);
  if (error == 0)
    return 0;
  errno = error;
  return -1;
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC int nbdkit_async_reply(void *conn, uint64_t reqid) {
  return reply(conn, reqid, {});
}

NBDKIT_DLL_PUBLIC int nbdkit_async_reply_read(void *conn, uint64_t reqid, uint32_t count,
                                              void *buf) {
  AsyncReply read;
  read.data = static_cast<const uint8_t *>(buf);
  read.length_bytes = count;
  return reply(conn, reqid, read);
}

NBDKIT_DLL_PUBLIC int nbdkit_async_reply_read_lent(void *conn, uint64_t reqid, uint32_t count,
                                                   const void *buf, void (*release)(void *opaque),
                                                   void *opaque) {
  AsyncReply read;
  read.data = static_cast<const uint8_t *>(buf);
  read.length_bytes = count;
  read.release = release;
  read.opaque = opaque;
  return reply(conn, reqid, read);
}

NBDKIT_DLL_PUBLIC int nbdkit_async_reply_error(void *conn, uint64_t reqid) {
  const int failure = errno;
  const int set = std::exchange(thread_state().error, 0); // not for the next reply too
  AsyncReply error;
  error.error = set != 0 ? set : failure > 0 ? failure : EIO;
  return reply(conn, reqid, error);
}

NBDKIT_DLL_PUBLIC int nbdkit_async_reply_errno(void *conn, uint64_t reqid, int err) {
  AsyncReply error;
  error.error = err > 0 ? err : EIO;
  return reply(conn, reqid, error);
}

} // extern "C"
