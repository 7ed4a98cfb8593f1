// Claims on ranges of blocks: overlapping claims are granted in the order in which they came.
#pragma once

#include <cstdint>
#include <random>

namespace asyncnbd::store {

// Not thread-safe: its owner has a lock. Adding and removing a claim takes logarithmic time in the
// number of claims, so that the lock is held briefly even with thousands.
class RangeClaims {
public:
  // Lies in the caller's memory, from add to remove.
  struct Claim {
    uint64_t first; // block
    uint64_t last;
    bool is_granted;
    Claim *next_granted; // see remove

  private:
    friend class RangeClaims;
    uint64_t number; // in the order in which they came

    // In the tree: ordered by first block and number, and as a heap by `chance`. The fields named
    // tree_… are of this claim and all below it: the last block, the earliest and the latest
    // number.
    uint64_t chance;
    Claim *left;
    Claim *right;
    uint64_t tree_last;
    uint64_t tree_earliest;
    uint64_t tree_latest;

    // While it waits: the latest earlier claim that it overlaps, which it waits for, and its
    // neighbours in the list of claims that wait for the same one.
    Claim *awaited;
    Claim *previous_waiting;
    Claim *next_waiting;
    // Claims that wait for this one.
    Claim *first_waiting;
    Claim *last_waiting;
  };

  // False: it waits until earlier claims that overlap are removed.
  bool add(Claim &claim);

  // Removes a claim, granted or not. Returns the claims that are granted now, linked by
  // `next_granted`.
  Claim *remove(Claim &claim);

  // Calls `visit` for each waiting claim; none may be added or removed meanwhile.
  template <typename Visit> void for_each_waiting(Visit visit) const { visit_tree(root_, visit); }

private:
  template <typename Visit> static void visit_tree(Claim *tree, Visit &visit) {
    if (tree == nullptr)
      return;
    visit_tree(tree->left, visit);
    if (!tree->is_granted)
      visit(*tree);
    visit_tree(tree->right, visit);
  }

  static bool is_before(const Claim &one, const Claim &other);
  static void measure(Claim &tree);
  static Claim *join(Claim *lower, Claim *higher);
  static void split(Claim *tree, const Claim &at, Claim **lower, Claim **higher);
  static Claim *without(Claim *tree, const Claim &removed);
  static void find(Claim *tree, const Claim &claim, Claim **found);
  bool has_to_wait(Claim &claim);
  static void stop_waiting(Claim &claim);

  Claim *root_ = nullptr;
  uint64_t added_ = 0;
  const uint64_t seed_ = std::random_device{}(); // so that no client can make the tree a list
};

} // namespace asyncnbd::store
