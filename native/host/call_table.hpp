// What is known of asynchronous calls by their ids: all that a reply must be able to check, even
// one that comes when its call, and everything else of it, is long over.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/mutex.hpp"

namespace asyncnbd::host {

class AsyncCall;

// An id is the number of the call of its record, and the record's place in the table.
constexpr unsigned CALL_INDEX_BITS = 24;
constexpr uint64_t CALL_INDEX_MASK = (uint64_t{1} << CALL_INDEX_BITS) - 1;
constexpr uint64_t CALL_NUMBER_MASK = UINT64_MAX >> CALL_INDEX_BITS;

enum class CallState : uint64_t { idle = 0, in_flight = 1, given_up = 2 };
constexpr unsigned CALL_STATE_BITS = 2;

constexpr uint64_t call_word(uint64_t number, CallState state) {
  return number << CALL_STATE_BITS | static_cast<uint64_t>(state);
}

struct CallRecord {
  // A number that is different for each call, and its state. Release in AsyncCall::begin, acquire
  // of whoever ends the call.
  std::atomic<uint64_t> word;
  // Pairs with nothing: it only rules out replies in another connection's name, `word` the rest.
  std::atomic<const void *> conn;
  AsyncCall *call; // only for the thread that has ended the call
  uint32_t index;
  uint32_t next_free;
};

// Thread-safe. Never destroyed, and its addresses stay mapped: a plugin may reply for ever, with
// any id at all. But where no call is in flight the memory goes back to the system; then the
// records read as idle, and the calls that come there later go on with higher numbers.
class CallTable {
public:
  CallTable() = default;
  CallTable(const CallTable &) = delete;
  CallTable &operator=(const CallTable &) = delete;

  // An idle one; nullptr if memory is short, or if more are in use than ids can tell apart.
  CallRecord *take();
  // One that is idle, and that no thread will begin.
  void put(CallRecord &record);

  // The record of such an id; nullptr if there has never been one. Takes no lock.
  CallRecord *find(uint64_t id);

  // What it has of the system's memory.
  size_t resident_bytes();

private:
  static constexpr uint32_t CHUNK = 4096;
  static constexpr size_t CHUNKS = (CALL_INDEX_MASK + 1) / CHUNK;
  static constexpr uint32_t NONE = UINT32_MAX;

  // Records side by side.
  struct Chunk {
    CallRecord *records;
    uint64_t last_number; // of the calls that the system's memory has forgotten
    uint32_t free;        // were in use before
    uint32_t fresh;       // from this one on, none has been
    uint32_t in_use;
  };

  bool grow();
  void release(Chunk &chunk);

  base::Mutex<base::LockRank::async_calls> mutex_; // guards all but `records_`
  std::vector<Chunk> chunks_;
  size_t first_with_room_ = 0; // no chunk before it has any
  size_t empty_chunks_ = 0;    // whose memory has not been given back
  // Acquires in find pair with the releases of the threads that add them.
  std::array<std::atomic<CallRecord *>, CHUNKS> records_{};
};

// The process's: replies have no argument that says whose they are.
CallTable &calls();

} // namespace asyncnbd::host
