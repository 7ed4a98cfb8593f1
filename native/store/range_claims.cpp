// See range_claims.hpp.
#include "store/range_claims.hpp"

namespace asyncnbd::store {

void RangeClaims::List::append(Claim &claim) {
  claim.previous = last;
  claim.next = nullptr;
  (last == nullptr ? first : last->next) = &claim;
  last = &claim;
}

void RangeClaims::List::remove(Claim &claim) {
  (claim.previous == nullptr ? first : claim.previous->next) = claim.next;
  (claim.next == nullptr ? last : claim.next->previous) = claim.previous;
}

bool RangeClaims::List::overlaps(const Claim &claim, const Claim *end) const {
  for (const Claim *other = first; other != nullptr && other != end; other = other->next)
    if (other->first <= claim.last && claim.first <= other->last)
      return true;
  return false;
}

bool RangeClaims::add(Claim &claim) {
  claim.is_granted = !granted_.overlaps(claim, nullptr) && !waiting_.overlaps(claim, nullptr);
  (claim.is_granted ? granted_ : waiting_).append(claim);
  return claim.is_granted;
}

RangeClaims::Claim *RangeClaims::remove(Claim &removed) {
  (removed.is_granted ? granted_ : waiting_).remove(removed);
  Claim *ready = nullptr;
  Claim **link = &ready;
  for (Claim *claim = waiting_.first; claim != nullptr;) {
    Claim *next = claim->next;
    if (!granted_.overlaps(*claim, nullptr) && !waiting_.overlaps(*claim, claim)) {
      waiting_.remove(*claim);
      claim->is_granted = true;
      granted_.append(*claim);
      claim->next_granted = nullptr;
      *link = claim;
      link = &claim->next_granted;
    }
    claim = next;
  }
  return ready;
}

} // namespace asyncnbd::store
