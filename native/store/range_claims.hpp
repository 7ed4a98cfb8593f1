// Who changes which blocks: of those that want the same, one after the other.
#pragma once

#include <cstdint>

namespace asyncnbd::store {

// Not thread-safe: its owner has a lock.
class RangeClaims {
public:
  // Somebody's, and in his memory, from add to remove.
  struct Claim {
    uint64_t first; // block
    uint64_t last;
    bool is_granted;
    Claim *next_granted; // see remove
    Claim *previous;
    Claim *next;
  };

  // False: it waits until those that were there before and overlap have gone.
  bool add(Claim &claim);

  // Granted or not. Returns those that are granted now, linked by `next_granted`.
  Claim *remove(Claim &claim);

  // The first that waits and fulfils a condition, or nullptr.
  template <typename Condition> Claim *find_waiting(Condition condition) const {
    for (Claim *claim = waiting_.first; claim != nullptr; claim = claim->next)
      if (condition(*claim))
        return claim;
    return nullptr;
  }

private:
  struct List {
    Claim *first = nullptr;
    Claim *last = nullptr;

    void append(Claim &claim);
    void remove(Claim &claim);
    // With one of those before `end`.
    bool overlaps(const Claim &claim, const Claim *end) const;
  };

  List granted_;
  List waiting_; // first come first
};

} // namespace asyncnbd::store
