// The state of each block of a disk, in two bits. Blocks that nobody has touched take no memory,
// however large the disk is.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

namespace asyncnbd::store {

// The owner decides what the states mean; all blocks begin in state 0. Any thread, without locks: a
// thread that sees a state also sees what was done before it was set. Threads that may set states
// of the same blocks at the same time must hold claims on them (range_claims.hpp).
class BlockMap {
public:
  // A disk of 2^63 bytes has 2^51 blocks of 4 KiB.
  static constexpr unsigned BLOCK_BITS = 51;

  // Enough for all 4 KiB blocks of 16 TiB. Without a limit, clients of a huge disk could zero
  // single blocks without end, which costs nothing but this memory.
  static constexpr size_t MAX_BYTES = size_t{1} << 30;

  explicit BlockMap(size_t max_bytes = MAX_BYTES) : max_bytes_(max_bytes) {}
  ~BlockMap();
  BlockMap(const BlockMap &) = delete;
  BlockMap &operator=(const BlockMap &) = delete;

  unsigned get(uint64_t block) const;

  // How many blocks from `first` on, up to `last`, have the state that `first` has.
  uint64_t run(uint64_t first, uint64_t last, unsigned *state) const;

  // Sets the state of all blocks from `first` to `last`. False: out of memory, or past the limit;
  // only a part of them is set.
  [[nodiscard]] bool set(uint64_t first, uint64_t last, unsigned state);

  // Changes the state of blocks from `first` to `last` whose state is one of `states`, a set of
  // bits 1 << state without state 0. Needs no claim: if several threads do this at the same time,
  // later ones see what earlier ones did before it, even if they change nothing. False: out of
  // memory.
  [[nodiscard]] bool replace(uint64_t first, uint64_t last, unsigned states, unsigned to);

  // The first block from `first` to `last` whose state is one of `states`, as above. Skips
  // untouched ranges of any size at once.
  std::optional<uint64_t> find(uint64_t first, uint64_t last, unsigned states) const;

private:
  static constexpr unsigned LEAF_BITS = 15;
  static constexpr unsigned NODE_BITS = 12;
  static constexpr uint64_t LEAF_BLOCKS = uint64_t{1} << LEAF_BITS;
  static constexpr unsigned BLOCKS_PER_WORD = 32;

  struct Leaf {
    std::array<std::atomic<uint64_t>, LEAF_BLOCKS / BLOCKS_PER_WORD> words;
  };
  template <typename Child> struct Node {
    std::array<std::atomic<Child *>, size_t{1} << NODE_BITS> children{};
    ~Node();
  };
  using Lowest = Node<Leaf>;
  using Middle = Node<Lowest>;
  using Root = Node<Middle>;

  // If all blocks have one state, this marker pointer replaces the leaf; nullptr: state 0.
  static Leaf *uniform(unsigned state) {
    return reinterpret_cast<Leaf *>(static_cast<uintptr_t>(state));
  }
  static bool is_uniform(const Leaf *leaf);
  static unsigned state_of(const Leaf *uniform);

  const Leaf *leaf_of(uint64_t block) const;
  // As leaf_of. `*end` is the first block after the leaf, or after the gap if there is none.
  const Leaf *leaf_or_gap(uint64_t block, uint64_t *end) const;
  static void replace_in(Leaf &leaf, uint64_t first, uint64_t last, unsigned states, unsigned to);
  static std::optional<uint64_t> find_in(const Leaf *leaf, uint64_t first, uint64_t last,
                                         unsigned states);
  std::atomic<Leaf *> *make_place(uint64_t block);
  Leaf *make_own(std::atomic<Leaf *> &place);
  template <typename Any> Any *make();
  template <typename Any> void unmake(Any *made);
  template <typename Any> Any *get_or_make(std::atomic<Any *> &place);
  static void dispose(Leaf *leaf);
  template <typename Any> static void dispose(Any *node) { delete node; }

  const size_t max_bytes_;
  std::atomic<size_t> bytes_{0}; // a count, pairs with nothing
  std::atomic<Root *> root_{nullptr};
};

} // namespace asyncnbd::store
