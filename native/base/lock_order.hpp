// The order in which locks are taken, by their names, and its check.
#pragma once

#include <cstdint>

namespace asyncnbd::base {

// A thread that holds a lock may take only those further down, so that no two threads ever wait for
// each other. Two locks of one rank are never held together. docs/architecture.md says under "Order
// of locks" what each guards, and what is called while it is held.
enum class LockRank : uint8_t {
#define RANK(name) name,
#include "base/lock_ranks.inc"
#undef RANK
};

#ifdef ASYNCNBD_CHECK_LOCKS

// Called for each lock that the calling thread takes and gives back. Ends the process, with a line
// that says why, if the order is not kept, or if the thread does not hold what it unlocks.
void before_lock(LockRank rank);
void before_unlock(LockRank rank);
// Before a wait for a condition, which gives back its own lock alone: that is held, and no other.
void before_wait(LockRank rank);

#endif

} // namespace asyncnbd::base
