// See block_map.hpp.
#include "store/block_map.hpp"

#include <algorithm>
#include <new>

namespace asyncnbd::store {

namespace {

constexpr unsigned STATES = 4;

// A word with all blocks in this state.
constexpr uint64_t filled(unsigned state) {
  return state * UINT64_C(0x5555555555555555);
}

// The bits of `count` blocks of a word, from `first` on.
constexpr uint64_t mask(unsigned first, unsigned count) {
  return (count == 32 ? ~uint64_t{0} : (uint64_t{1} << (2 * count)) - 1) << (2 * first);
}

// Both bits of each block in a word that has one of these states.
constexpr uint64_t in_states(uint64_t word, unsigned states) {
  uint64_t found = 0;
  for (unsigned state = 1; state < STATES; state++) {
    const uint64_t different = word ^ filled(state);
    if ((states >> state & 1) != 0)
      found |= ~(different | different >> 1) & filled(1);
  }
  return found | found << 1;
}

} // namespace

template <typename Child> BlockMap::Node<Child>::~Node() {
  for (std::atomic<Child *> &child : children)
    if (Child *there = child.load(std::memory_order_relaxed))
      dispose(there);
}

BlockMap::~BlockMap() {
  delete root_.load(std::memory_order_relaxed);
}

bool BlockMap::is_uniform(const Leaf *leaf) {
  return leaf < uniform(STATES);
}

unsigned BlockMap::state_of(const Leaf *uniform) {
  return static_cast<unsigned>(reinterpret_cast<uintptr_t>(uniform));
}

void BlockMap::dispose(Leaf *leaf) {
  if (!is_uniform(leaf))
    delete leaf;
}

template <typename Any> Any *BlockMap::make() {
  if (bytes_.fetch_add(sizeof(Any), std::memory_order_relaxed) + sizeof(Any) <= max_bytes_)
    if (Any *made = new (std::nothrow) Any())
      return made;
  bytes_.fetch_sub(sizeof(Any), std::memory_order_relaxed);
  return nullptr;
}

template <typename Any> void BlockMap::unmake(Any *made) {
  delete made;
  bytes_.fetch_sub(sizeof(Any), std::memory_order_relaxed);
}

// The release pairs with the acquire of a thread that reads the pointer: it then sees the new
// object. If two threads make one, the second uses the object of the first.
template <typename Any> Any *BlockMap::get_or_make(std::atomic<Any *> &place) {
  Any *there = place.load(std::memory_order_acquire);
  if (there != nullptr)
    return there;
  Any *made = make<Any>();
  if (made == nullptr || place.compare_exchange_strong(there, made, std::memory_order_acq_rel))
    return made;
  unmake(made);
  return there;
}

const BlockMap::Leaf *BlockMap::leaf_of(uint64_t block) const {
  uint64_t end;
  return leaf_or_gap(block, &end);
}

const BlockMap::Leaf *BlockMap::leaf_or_gap(uint64_t block, uint64_t *end) const {
  constexpr uint64_t INDEX = (uint64_t{1} << NODE_BITS) - 1;
  auto end_of = [block](unsigned bits) { return ((block >> bits) + 1) << bits; };
  const Root *root = root_.load(std::memory_order_acquire);
  *end = end_of(BLOCK_BITS);
  if (root == nullptr)
    return uniform(0);
  const Middle *middle =
      root->children[block >> (LEAF_BITS + 2 * NODE_BITS) & INDEX].load(std::memory_order_acquire);
  *end = end_of(LEAF_BITS + 2 * NODE_BITS);
  if (middle == nullptr)
    return uniform(0);
  const Lowest *lowest =
      middle->children[block >> (LEAF_BITS + NODE_BITS) & INDEX].load(std::memory_order_acquire);
  *end = end_of(LEAF_BITS + NODE_BITS);
  if (lowest == nullptr)
    return uniform(0);
  *end = end_of(LEAF_BITS);
  return lowest->children[block >> LEAF_BITS & INDEX].load(std::memory_order_acquire);
}

std::atomic<BlockMap::Leaf *> *BlockMap::make_place(uint64_t block) {
  constexpr uint64_t INDEX = (uint64_t{1} << NODE_BITS) - 1;
  Root *root = get_or_make(root_);
  if (root == nullptr)
    return nullptr;
  Middle *middle = get_or_make(root->children[block >> (LEAF_BITS + 2 * NODE_BITS) & INDEX]);
  if (middle == nullptr)
    return nullptr;
  Lowest *lowest = get_or_make(middle->children[block >> (LEAF_BITS + NODE_BITS) & INDEX]);
  return lowest == nullptr ? nullptr : &lowest->children[block >> LEAF_BITS & INDEX];
}

// Makes a writable leaf with the states of the shared one.
BlockMap::Leaf *BlockMap::make_own(std::atomic<Leaf *> &place) {
  Leaf *there = place.load(std::memory_order_acquire);
  if (!is_uniform(there))
    return there;
  Leaf *made = make<Leaf>();
  if (made == nullptr)
    return nullptr;
  do {
    for (std::atomic<uint64_t> &word : made->words)
      word.store(filled(state_of(there)), std::memory_order_relaxed);
    if (place.compare_exchange_strong(there, made, std::memory_order_acq_rel))
      return made;
  } while (is_uniform(there));
  unmake(made);
  return there;
}

unsigned BlockMap::get(uint64_t block) const {
  const Leaf *leaf = leaf_of(block);
  if (is_uniform(leaf))
    return state_of(leaf);
  const uint64_t in_leaf = block % LEAF_BLOCKS;
  const uint64_t word = leaf->words[in_leaf / BLOCKS_PER_WORD].load(std::memory_order_acquire);
  return static_cast<unsigned>(word >> (2 * (in_leaf % BLOCKS_PER_WORD))) & (STATES - 1);
}

uint64_t BlockMap::run(uint64_t first, uint64_t last, unsigned *state) const {
  *state = get(first);
  const uint64_t same = filled(*state);
  uint64_t block = first;
  while (block <= last) {
    const Leaf *leaf = leaf_of(block);
    const uint64_t end_of_leaf = std::min(last, block | (LEAF_BLOCKS - 1));
    if (is_uniform(leaf)) {
      if (state_of(leaf) != *state)
        break;
      block = end_of_leaf + 1;
      continue;
    }
    while (block <= end_of_leaf) {
      const unsigned in_word = block % BLOCKS_PER_WORD;
      const uint64_t word =
          leaf->words[block % LEAF_BLOCKS / BLOCKS_PER_WORD].load(std::memory_order_acquire);
      const uint64_t different = (word ^ same) >> (2 * in_word);
      const uint64_t equal = different == 0 ? BLOCKS_PER_WORD - in_word
                                            : static_cast<uint64_t>(__builtin_ctzll(different)) / 2;
      block += equal;
      if (different != 0)
        return std::max<uint64_t>(std::min(block, last + 1) - first, 1); // it may change meanwhile
    }
  }
  return std::max<uint64_t>(std::min(block, last + 1) - first, 1); // it may change meanwhile
}

bool BlockMap::set(uint64_t first, uint64_t last, unsigned state) {
  for (uint64_t block = first; block <= last;) {
    std::atomic<Leaf *> *place = make_place(block);
    if (place == nullptr)
      return false;
    const uint64_t end_of_leaf = std::min(last, block | (LEAF_BLOCKS - 1));
    Leaf *leaf = place->load(std::memory_order_acquire);
    // Nobody else has a claim on any block of this leaf. A leaf of its own stays, because others
    // may be reading it.
    const bool is_whole = block % LEAF_BLOCKS == 0 && end_of_leaf % LEAF_BLOCKS == LEAF_BLOCKS - 1;
    if (is_whole && is_uniform(leaf)) {
      place->store(uniform(state), std::memory_order_release);
      block = end_of_leaf + 1;
      continue;
    }
    leaf = make_own(*place);
    if (leaf == nullptr)
      return false;
    while (block <= end_of_leaf) {
      const auto in_word = static_cast<unsigned>(block % BLOCKS_PER_WORD);
      const auto count = static_cast<unsigned>(
          std::min<uint64_t>(BLOCKS_PER_WORD - in_word, end_of_leaf - block + 1));
      const uint64_t bits = mask(in_word, count);
      std::atomic<uint64_t> &word = leaf->words[block % LEAF_BLOCKS / BLOCKS_PER_WORD];
      uint64_t before = word.load(std::memory_order_relaxed);
      // The release pairs with `get`. Other threads may change neighbours in the word at the same
      // time.
      while (!word.compare_exchange_weak(before, (before & ~bits) | (filled(state) & bits),
                                         std::memory_order_release, std::memory_order_relaxed)) {
      }
      block += count;
    }
  }
  return true;
}

bool BlockMap::replace(uint64_t first, uint64_t last, unsigned states, unsigned to) {
  for (uint64_t block = first; block <= last;) {
    uint64_t end;
    const Leaf *found = leaf_or_gap(block, &end);
    if (!is_uniform(found) || (states >> state_of(found) & 1) != 0) {
      std::atomic<Leaf *> *place = make_place(block);
      Leaf *leaf = place == nullptr ? nullptr : make_own(*place);
      if (leaf == nullptr)
        return false;
      replace_in(*leaf, block, std::min(last, end - 1), states, to);
    }
    block = end;
  }
  return true;
}

void BlockMap::replace_in(Leaf &leaf, uint64_t first, uint64_t last, unsigned states, unsigned to) {
  for (uint64_t block = first; block <= last;) {
    const auto in_word = static_cast<unsigned>(block % BLOCKS_PER_WORD);
    const auto count =
        static_cast<unsigned>(std::min<uint64_t>(BLOCKS_PER_WORD - in_word, last - block + 1));
    std::atomic<uint64_t> &word = leaf.words[block % LEAF_BLOCKS / BLOCKS_PER_WORD];
    uint64_t before = word.load(std::memory_order_relaxed);
    uint64_t after;
    do {
      const uint64_t bits = in_states(before, states) & mask(in_word, count);
      after = (before & ~bits) | (filled(to) & bits);
    } while (!word.compare_exchange_weak(before, after, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
    block += count;
  }
}

std::optional<uint64_t> BlockMap::find(uint64_t first, uint64_t last, unsigned states) const {
  for (uint64_t block = first; block <= last;) {
    uint64_t end;
    const Leaf *leaf = leaf_or_gap(block, &end);
    if (leaf != nullptr)
      if (const auto found = find_in(leaf, block, std::min(last, end - 1), states))
        return found;
    block = end;
  }
  return std::nullopt;
}

std::optional<uint64_t> BlockMap::find_in(const Leaf *leaf, uint64_t first, uint64_t last,
                                          unsigned states) {
  if (is_uniform(leaf))
    return (states >> state_of(leaf) & 1) != 0 ? std::optional(first) : std::nullopt;
  for (uint64_t block = first; block <= last;) {
    const auto in_word = static_cast<unsigned>(block % BLOCKS_PER_WORD);
    const uint64_t word =
        leaf->words[block % LEAF_BLOCKS / BLOCKS_PER_WORD].load(std::memory_order_acquire);
    const uint64_t bits = in_states(word, states) >> (2 * in_word);
    if (bits != 0) {
      const uint64_t found = block + static_cast<uint64_t>(__builtin_ctzll(bits)) / 2;
      return found <= last ? std::optional(found) : std::nullopt;
    }
    block += BLOCKS_PER_WORD - in_word;
  }
  return std::nullopt;
}

} // namespace asyncnbd::store
