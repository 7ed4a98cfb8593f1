// See call_table.hpp.
#include "host/call_table.hpp"

#include <algorithm>
#include <sys/mman.h>
#include <utility>

namespace asyncnbd::host {

namespace {

// One empty chunk is kept, so that the system is not asked each time.
constexpr size_t MAX_EMPTY_CHUNKS = 1;

} // namespace

CallTable &calls() {
  static auto *table = new CallTable;
  return *table;
}

bool CallTable::grow() {
  if (chunks_.size() == CHUNKS)
    return false;
  void *memory = mmap(nullptr, CHUNK * sizeof(CallRecord), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return false;
  auto *records = static_cast<CallRecord *>(memory);
  records_[chunks_.size()].store(records, std::memory_order_release);
  chunks_.push_back({records, 0, NONE, 0, 0});
  return true;
}

CallRecord *CallTable::take() {
  std::lock_guard lock(mutex_);
  while (first_with_room_ < chunks_.size() && chunks_[first_with_room_].in_use == CHUNK)
    first_with_room_++;
  if (first_with_room_ == chunks_.size() && !grow())
    return nullptr;
  Chunk &chunk = chunks_[first_with_room_];
  if (chunk.in_use == 0 && chunk.fresh > 0)
    empty_chunks_--;
  chunk.in_use++;
  if (chunk.free != NONE) {
    CallRecord &record = chunk.records[chunk.free];
    chunk.free = record.next_free;
    return &record;
  }
  CallRecord &record = chunk.records[chunk.fresh];
  record.index = static_cast<uint32_t>(first_with_room_) * CHUNK + chunk.fresh++;
  record.word.store(call_word(chunk.last_number, CallState::idle), std::memory_order_relaxed);
  return &record;
}

void CallTable::put(CallRecord &record) {
  std::lock_guard lock(mutex_);
  const size_t index = record.index / CHUNK;
  Chunk &chunk = chunks_[index];
  record.next_free = std::exchange(chunk.free, record.index % CHUNK);
  first_with_room_ = std::min(first_with_room_, index);
  if (--chunk.in_use > 0)
    return;
  if (empty_chunks_ < MAX_EMPTY_CHUNKS)
    empty_chunks_++;
  else
    release(chunk);
}

// From then on, late replies find zeroes there, which mean idle.
void CallTable::release(Chunk &chunk) {
  for (uint32_t i = 0; i < chunk.fresh; i++) {
    const uint64_t word = chunk.records[i].word.load(std::memory_order_relaxed);
    chunk.last_number = std::max(chunk.last_number, word >> CALL_STATE_BITS);
  }
  if (madvise(chunk.records, CHUNK * sizeof(CallRecord), MADV_DONTNEED) != 0) {
    empty_chunks_++; // it is locked in memory
    return;
  }
  chunk.free = NONE;
  chunk.fresh = 0;
}

CallRecord *CallTable::find(uint64_t id) {
  const uint64_t index = id & CALL_INDEX_MASK;
  CallRecord *records = records_[index / CHUNK].load(std::memory_order_acquire);
  return records == nullptr ? nullptr : &records[index % CHUNK];
}

size_t CallTable::resident_bytes() {
  std::lock_guard lock(mutex_);
  size_t records = 0;
  for (const Chunk &chunk : chunks_)
    records += chunk.fresh > 0 ? CHUNK : 0;
  return records * sizeof(CallRecord);
}

} // namespace asyncnbd::host
