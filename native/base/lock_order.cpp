// See lock_order.hpp.
#include "base/lock_order.hpp"

#ifdef ASYNCNBD_CHECK_LOCKS

#include <array>
#include <cstdio>
#include <cstdlib>
#include <iterator>

namespace asyncnbd::base {

namespace {

constexpr const char *NAMES[] = {
#define RANK(name) #name,
#include "base/lock_ranks.inc"
#undef RANK
};
constexpr size_t LOCK_RANKS = std::size(NAMES);

// In their order, whatever the order of unlocking. Without a destructor: threads that end still
// give back memory.
struct Held {
  std::array<LockRank, LOCK_RANKS> ranks;
  size_t count;
};
constinit thread_local Held held{};

const char *name_of(LockRank rank) {
  return NAMES[static_cast<size_t>(rank)];
}

[[noreturn]] void fail(const char *what, LockRank rank) {
  fprintf(stderr, "asyncnbd: lock %s %s; this thread holds:", name_of(rank), what);
  for (size_t i = 0; i < held.count; i++)
    fprintf(stderr, " %s", name_of(held.ranks[i]));
  fprintf(stderr, "\n");
  abort();
}

} // namespace

void before_lock(LockRank rank) {
  if (held.count > 0 && held.ranks[held.count - 1] >= rank)
    fail(held.ranks[held.count - 1] == rank ? "is taken twice" : "is taken out of order", rank);
  held.ranks[held.count++] = rank;
}

void before_unlock(LockRank rank) {
  size_t place = held.count;
  while (place > 0 && held.ranks[place - 1] != rank)
    place--;
  if (place == 0)
    fail("is unlocked by a thread that does not hold it", rank);
  for (; place < held.count; place++)
    held.ranks[place - 1] = held.ranks[place];
  held.count--;
}

void before_wait(LockRank rank) {
  if (held.count > 1)
    fail("is waited with while others are held", rank);
  if (held.count == 0 || held.ranks[0] != rank)
    fail("is waited with by a thread that does not hold it", rank);
}

} // namespace asyncnbd::base

#endif
