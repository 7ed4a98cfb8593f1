// See async_calls.hpp. Also the nbdkit_async_reply functions.
#include "host/async_calls.hpp"

#include <array>
#include <cerrno>
#include <cinttypes>
#include <utility>

#include "base/mutex.hpp"
#include "host/abi.hpp"
#include "host/log.hpp"
#include "host/thread_state.hpp"

namespace asyncnbd::host {

namespace {

// An id is the number of the call of its object, and the object's place in the table.
constexpr unsigned INDEX_BITS = 24;
constexpr uint64_t INDEX_MASK = (1u << INDEX_BITS) - 1;
constexpr size_t CHUNK = 4096;
constexpr size_t CHUNKS = (INDEX_MASK + 1) / CHUNK;

enum State : uint64_t { idle = 0, in_flight = 1, given_up = 2 };
constexpr unsigned STATE_BITS = 2;

constexpr uint64_t word_of(uint64_t number, State state) {
  return number << STATE_BITS | state;
}

// A plugin that gets one reply wrong gets thousands wrong.
constexpr unsigned MAX_COMPLAINTS = 10;

using Chunk = std::array<std::atomic<AsyncCall *>, CHUNK>;

// Only grows. Readers take no lock, as they may be handed any id at all: their acquires, of a chunk
// and of a call in it, pair with the releases of who has added them.
struct Table {
  base::Mutex<base::LockRank::async_calls> growing;
  uint32_t size = 0;
  std::array<std::atomic<Chunk *>, CHUNKS> chunks{};
};

Table &table() {
  static Table *table = new Table;
  return *table;
}

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

AsyncCall::AsyncCall() {
  Table &all = table();
  std::lock_guard lock(all.growing);
  if (all.size > INDEX_MASK) {
    index_ = NO_INDEX;
    return;
  }
  index_ = all.size++;
  std::atomic<Chunk *> &chunk = all.chunks[index_ / CHUNK];
  if (chunk.load(std::memory_order_relaxed) == nullptr)
    chunk.store(new Chunk{}, std::memory_order_release);
  (*chunk.load(std::memory_order_relaxed))[index_ % CHUNK].store(this, std::memory_order_release);
}

AsyncCall *AsyncCall::find(uint64_t id) {
  const uint64_t index = id & INDEX_MASK;
  Chunk *chunk = table().chunks[index / CHUNK].load(std::memory_order_acquire);
  return chunk == nullptr ? nullptr : (*chunk)[index % CHUNK].load(std::memory_order_acquire);
}

uint64_t AsyncCall::begin(const void *conn) {
  const uint64_t number = (word_.load(std::memory_order_relaxed) >> STATE_BITS) + 1;
  conn_.store(conn, std::memory_order_relaxed);
  // Release pairs with the acquire of whoever ends the call: it sees what was prepared for it.
  word_.store(word_of(number, in_flight), std::memory_order_release);
  return number << INDEX_BITS | index_;
}

bool AsyncCall::fail(uint64_t id) {
  uint64_t expected = word_of(id >> INDEX_BITS, in_flight);
  return word_.compare_exchange_strong(expected, word_of(id >> INDEX_BITS, idle),
                                       std::memory_order_acq_rel);
}

bool AsyncCall::give_up() {
  uint64_t word = word_.load(std::memory_order_acquire);
  const uint64_t number = word >> STATE_BITS;
  return word == word_of(number, in_flight) &&
         word_.compare_exchange_strong(word, word_of(number, given_up), std::memory_order_acq_rel);
}

int AsyncCall::reply(const void *conn, uint64_t id, const AsyncReply &reply) {
  AsyncCall *call = find(id);
  const uint64_t number = id >> INDEX_BITS;
  if (call != nullptr && call->conn_.load(std::memory_order_relaxed) == conn) {
    uint64_t expected = word_of(number, in_flight);
    if (call->word_.compare_exchange_strong(expected, word_of(number, idle),
                                            std::memory_order_acq_rel))
      return call->on_reply(reply);
    expected = word_of(number, given_up);
    if (call->word_.compare_exchange_strong(expected, word_of(number, idle),
                                            std::memory_order_acq_rel)) {
      call->on_late_reply();
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
  const int set = std::exchange(thread_state().error, 0); // not for this thread's next reply too
  AsyncReply error;
  error.error = set != 0 ? set : failure != 0 ? failure : EIO;
  return reply(conn, reqid, error);
}

NBDKIT_DLL_PUBLIC int nbdkit_async_reply_errno(void *conn, uint64_t reqid, int err) {
  AsyncReply error;
  error.error = err > 0 ? err : EIO;
  return reply(conn, reqid, error);
}

} // extern "C"
