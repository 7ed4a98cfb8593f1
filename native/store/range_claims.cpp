// See range_claims.hpp. The claims are in a treap, a search tree that random priorities keep flat.
#include "store/range_claims.hpp"

#include <algorithm>
#include <utility>

#include "base/invariant.hpp"

namespace asyncnbd::store {

namespace {

// A number that looks random, even for consecutive inputs (the finalizer of splitmix64).
uint64_t scrambled(uint64_t number) {
  number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  number = (number ^ number >> 27) * UINT64_C(0x94d049bb133111eb);
  return number ^ number >> 31;
}

} // namespace

bool RangeClaims::is_before(const Claim &one, const Claim &other) {
  return one.first != other.first ? one.first < other.first : one.number < other.number;
}

// Call it for a claim after the trees below it have changed, and then for the claims above it.
void RangeClaims::measure(Claim &tree) {
  tree.tree_last = tree.last;
  tree.tree_earliest = tree.tree_latest = tree.number;
  for (const Claim *below : {tree.left, tree.right}) {
    if (below == nullptr)
      continue;
    tree.tree_last = std::max(tree.tree_last, below->tree_last);
    tree.tree_earliest = std::min(tree.tree_earliest, below->tree_earliest);
    tree.tree_latest = std::max(tree.tree_latest, below->tree_latest);
  }
}

RangeClaims::Claim *RangeClaims::join(Claim *lower, Claim *higher) {
  if (lower == nullptr || higher == nullptr)
    return lower == nullptr ? higher : lower;
  if (lower->chance > higher->chance) {
    lower->right = join(lower->right, higher);
    measure(*lower);
    return lower;
  }
  higher->left = join(lower, higher->left);
  measure(*higher);
  return higher;
}

void RangeClaims::split(Claim *tree, const Claim &at, Claim **lower, Claim **higher) {
  if (tree == nullptr) {
    *lower = *higher = nullptr;
    return;
  }
  if (is_before(*tree, at)) {
    split(tree->right, at, &tree->right, higher);
    *lower = tree;
  } else {
    split(tree->left, at, lower, &tree->left);
    *higher = tree;
  }
  measure(*tree);
}

RangeClaims::Claim *RangeClaims::without(Claim *tree, const Claim &removed) {
  if (tree == nullptr)
    base::invariant_failed("a claim that is released was made");
  if (tree == &removed)
    return join(tree->left, tree->right);
  Claim *&side = is_before(removed, *tree) ? tree->left : tree->right;
  side = without(side, removed);
  measure(*tree);
  return tree;
}

// Finds the latest claim that overlaps and came before `claim`, if it is later than `*found`.
void RangeClaims::find(Claim *tree, const Claim &claim, Claim **found) {
  if (tree == nullptr || tree->tree_last < claim.first || tree->tree_earliest >= claim.number ||
      (*found != nullptr && tree->tree_latest <= (*found)->number))
    return;
  if (tree->first <= claim.last && claim.first <= tree->last && tree->number < claim.number &&
      (*found == nullptr || (*found)->number < tree->number))
    *found = tree;
  // Look first where the latest claims are: then most of the rest can be skipped.
  Claim *right = tree->first <= claim.last ? tree->right : nullptr;
  const bool is_right_later =
      right != nullptr && (tree->left == nullptr || right->tree_latest > tree->left->tree_latest);
  find(is_right_later ? right : tree->left, claim, found);
  find(is_right_later ? tree->left : right, claim, found);
}

bool RangeClaims::has_to_wait(Claim &claim) {
  claim.awaited = nullptr;
  find(root_, claim, &claim.awaited);
  if (claim.awaited == nullptr)
    return false;
  Claim &awaited = *claim.awaited;
  claim.next_waiting = nullptr;
  claim.previous_waiting = awaited.last_waiting;
  (awaited.last_waiting == nullptr ? awaited.first_waiting : awaited.last_waiting->next_waiting) =
      &claim;
  awaited.last_waiting = &claim;
  return true;
}

void RangeClaims::stop_waiting(Claim &claim) {
  base::invariant(claim.awaited != nullptr, "a claim that is not granted waits for another");
  Claim &awaited = *claim.awaited;
  (claim.previous_waiting == nullptr ? awaited.first_waiting
                                     : claim.previous_waiting->next_waiting) = claim.next_waiting;
  (claim.next_waiting == nullptr ? awaited.last_waiting : claim.next_waiting->previous_waiting) =
      claim.previous_waiting;
}

bool RangeClaims::add(Claim &claim) {
  claim.number = added_++;
  claim.chance = scrambled(claim.number ^ seed_);
  claim.first_waiting = claim.last_waiting = nullptr;
  claim.is_granted = !has_to_wait(claim);
  Claim *lower;
  Claim *higher;
  split(root_, claim, &lower, &higher);
  claim.left = claim.right = nullptr;
  measure(claim);
  root_ = join(join(lower, &claim), higher);
  return claim.is_granted;
}

RangeClaims::Claim *RangeClaims::remove(Claim &removed) {
  if (!removed.is_granted)
    stop_waiting(removed);
  root_ = without(root_, removed);
  Claim *ready = nullptr;
  Claim **link = &ready;
  for (Claim *claim = removed.first_waiting; claim != nullptr;) {
    Claim *next = claim->next_waiting;
    if (!has_to_wait(*claim)) {
      claim->is_granted = true;
      claim->next_granted = nullptr;
      *link = claim;
      link = &claim->next_granted;
    }
    claim = next;
  }
  return ready;
}

} // namespace asyncnbd::store
