// The table of asynchronous calls by their ids: everything that a reply must check, even if its
// call, and all objects of it, are long gone.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/mutex.hpp"

namespace asyncnbd::host {

class AsyncCall;

// An id consists of the number of the call in its record, and the record's place in the table.
constexpr unsigned CALL_INDEX_BITS = 24;
constexpr uint64_t CALL_INDEX_MASK = (uint64_t{1} << CALL_INDEX_BITS) - 1;
constexpr uint64_t CALL_NUMBER_MASK = UINT64_MAX >> CALL_INDEX_BITS;

enum class CallState : uint64_t { idle = 0, in_flight = 1, given_up = 2 };
constexpr unsigned CALL_STATE_BITS = 2;

constexpr uint64_t call_word(uint64_t number, CallState state) {
  return number << CALL_STATE_BITS | static_cast<uint64_t>(state);
}

struct CallRecord {
  // A different number for each call, and its state. AsyncCall::begin releases; the thread that
  // ends the call acquires.
  std::atomic<uint64_t> word;
  // Pairs with nothing: it only excludes replies with another `conn`; `word` excludes the rest.
  std::atomic<const void *> conn;
  AsyncCall *call; // only for the thread that has ended the call
  uint32_t index;
  uint32_t next_free;
};

// Thread-safe. Never destroyed, and its addresses stay mapped: a plugin may reply at any time, with
// any id. But memory without calls in flight goes back to the system. Its records then read as
// idle, and later calls there continue with higher numbers.
class CallTable {
public:
  CallTable() = default;
  CallTable(const CallTable &) = delete;
  CallTable &operator=(const CallTable &) = delete;

  // An idle record; nullptr if memory is short, or if all ids are in use.
  CallRecord *take();
  // Puts back a record that is idle, and that no thread will begin.
  void put(CallRecord &record);

  // The record for this id; nullptr if there has never been one. Takes no lock.
  CallRecord *find(uint64_t id);

  // How much of the system's memory it uses.
  size_t resident_bytes();

private:
  static constexpr uint32_t CHUNK = 4096;
  static constexpr size_t CHUNKS = (CALL_INDEX_MASK + 1) / CHUNK;
  static constexpr uint32_t NONE = UINT32_MAX;

  // A block of records.
  struct Chunk {
    CallRecord *records;
    uint64_t last_number; // the highest of calls whose records were given back
    uint32_t free;        // records that were in use before
    uint32_t fresh;       // records from here on have never been used
    uint32_t in_use;
  };

  bool grow();
  void release(Chunk &chunk);

  base::Mutex<base::LockRank::async_calls> mutex_; // guards all but `records_`
  std::vector<Chunk> chunks_;
  size_t first_with_room_ = 0; // no earlier chunk has room
  size_t empty_chunks_ = 0;    // empty chunks that still have memory
  // Acquires in find pair with the releases of the threads that add them.
  std::array<std::atomic<CallRecord *>, CHUNKS> records_{};
};

// The process's table: replies have no argument that says whose they are.
CallTable &calls();

} // namespace asyncnbd::host
