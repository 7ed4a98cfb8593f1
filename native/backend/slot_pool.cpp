// See slot_pool.hpp.
#include "backend/slot_pool.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <sys/mman.h>
#include <utility>

#include "base/invariant.hpp"

namespace asyncnbd::backend {

namespace {

constexpr uint32_t SMALLEST_SLOT_BYTES = 4096;
// Memory comes in pieces of at least this size, so that small slots share one.
constexpr uint32_t SLAB_BYTES = 1 << 20;
// An owner keeps this much for itself, where it need not be zeroed.
constexpr uint32_t MAX_KEPT_BYTES = 1 << 20;
// If more than this is free in other sizes, that is given back before memory is added.
constexpr size_t MAX_SHARED_BYTES = 64u << 20;

unsigned class_of(uint32_t length_bytes) {
  if (length_bytes <= SMALLEST_SLOT_BYTES)
    return 0;
  return static_cast<unsigned>(std::bit_width((length_bytes - 1) / SMALLEST_SLOT_BYTES));
}

uint32_t class_bytes(unsigned size_class) {
  return SMALLEST_SLOT_BYTES << size_class;
}

} // namespace

SlotPool::SlotPool(void *holder) : holder_(holder) {
  shared_.fill(NONE);
  released_.fill(NONE);
}

SlotPool::~SlotPool() {
  for (const Slab &slab : slabs_)
    munmap(slab.data, static_cast<size_t>(slab.slot_bytes) * slab.slots);
}

uint32_t SlotPool::slot_bytes(uint32_t length_bytes) {
  return class_bytes(class_of(length_bytes));
}

// ---- owners ----------------------------------------------------------------------------------

uint32_t SlotPool::add_owner() {
  uint32_t index = free_owners_;
  if (index != NONE) {
    free_owners_ = owners_[index].next_free;
  } else {
    index = static_cast<uint32_t>(owners_.size());
    owners_.push_back({});
    owners_.back().free.fill(NONE);
  }
  return index;
}

void SlotPool::remove_owner(uint32_t index) {
  Owner &owner = owners_[index];
  give_up_kept(owner);
  owner.generation++; // data in slots does not belong to the next owner
  owner.next_free = std::exchange(free_owners_, index);
}

void SlotPool::give_up_kept(Owner &owner) {
  for (uint32_t &list : owner.free)
    while (Slot *slot = pop(&list))
      push_shared(*slot);
  owner.kept_bytes = 0;
}

// ---- slots -----------------------------------------------------------------------------------

SlotPool::Taken SlotPool::take(uint32_t length_bytes, uint32_t owner_index) {
  const unsigned size_class = class_of(length_bytes);
  if (size_class >= CLASSES)
    return {nullptr, 0};
  Owner &owner = owners_[owner_index];
  owner.is_used = true;
  Slot *slot = pop(&owner.free[size_class]);
  if (slot != nullptr) {
    owner.kept_bytes -= class_bytes(size_class);
    slot->used_bytes = std::max(slot->used_bytes, length_bytes);
    return taken(*slot, 0);
  }
  if ((slot = pop(&shared_[size_class])) != nullptr) {
    shared_bytes_ -= class_bytes(size_class);
    least_shared_[size_class] = std::min(least_shared_[size_class], --shared_count_[size_class]);
  } else {
    if (released_[size_class] == NONE && !grow(size_class))
      return {nullptr, 0};
    slot = pop(&released_[size_class]);
  }
  const bool is_own = slot->owner == owner_index && slot->generation == owner.generation;
  const uint32_t stale_bytes = is_own ? 0 : slot->used_bytes;
  slot->used_bytes = is_own ? std::max(slot->used_bytes, length_bytes) : length_bytes;
  slot->owner = owner_index;
  slot->generation = owner.generation;
  return taken(*slot, stale_bytes);
}

SlotPool::Taken SlotPool::taken(Slot &slot, uint32_t stale_bytes) {
  base::invariant(!slot.is_taken, "a slot is one request's at a time");
  slot.is_taken = true;
  taken_++;
  return {&slot, stale_bytes};
}

void SlotPool::end_use(Slot &slot) {
  base::invariant(slot.is_taken, "a slot that is put was taken");
  slot.is_taken = false;
  taken_--;
}

void SlotPool::put(Slot &slot) {
  end_use(slot);
  Owner &owner = owners_[slot.owner];
  const uint32_t bytes = class_bytes(slot.size_class);
  if (owner.generation != slot.generation || owner.kept_bytes + bytes > MAX_KEPT_BYTES) {
    push_shared(slot);
    return;
  }
  owner.kept_bytes += bytes;
  push(&owner.free[slot.size_class], slot);
}

void SlotPool::put_stale(Slot &slot) {
  end_use(slot);
  slot.owner = NONE;
  push_shared(slot);
}

SlotPool::Slot *SlotPool::pop(uint32_t *list) {
  if (*list == NONE)
    return nullptr;
  Slot &slot = slots_[*list];
  *list = slot.next_free;
  return &slot;
}

void SlotPool::push(uint32_t *list, Slot &slot) {
  slot.next_free = std::exchange(*list, slot.index);
}

void SlotPool::push_shared(Slot &slot) {
  push(&shared_[slot.size_class], slot);
  shared_count_[slot.size_class]++;
  shared_bytes_ += class_bytes(slot.size_class);
}

bool SlotPool::grow(unsigned size_class) {
  if (shared_bytes_ > MAX_SHARED_BYTES)
    release_shared(shared_count_); // none of them has this size
  const uint32_t bytes_each = class_bytes(size_class);
  const uint32_t count = std::max(1u, SLAB_BYTES / bytes_each);
  const size_t bytes = static_cast<size_t>(bytes_each) * count;
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return false;
  const auto first = static_cast<uint32_t>(slots_.size());
  const auto slab = static_cast<uint32_t>(slabs_.size());
  slabs_.push_back({static_cast<uint8_t *>(memory), first, bytes_each, count});
  for (uint32_t i = 0; i < count; i++) {
    uint8_t *data = slabs_.back().data + static_cast<size_t>(i) * bytes_each;
    slots_.push_back(
        {holder_, data, first + i, slab, NONE, 0, 0, 0, static_cast<uint8_t>(size_class)});
  }
  for (uint32_t i = count; i-- > 0;) // so that the first one is taken first
    push(&released_[size_class], slots_[first + i]);
  return true;
}

// ---- giving back -----------------------------------------------------------------------------

bool SlotPool::trim() {
  release_shared(least_shared_);
  bool has_more = taken_ > 0;
  for (Owner &owner : owners_) {
    if (!std::exchange(owner.is_used, false))
      give_up_kept(owner);
    has_more = has_more || owner.kept_bytes > 0;
  }
  least_shared_ = shared_count_;
  return has_more || shared_bytes_ > 0;
}

// Releases this many of each size, those that were put longest ago.
void SlotPool::release_shared(const std::array<size_t, CLASSES> &counts) {
  std::vector<Slot *> slots;
  for (unsigned size_class = 0; size_class < CLASSES; size_class++) {
    const size_t count = counts[size_class];
    if (count == 0)
      continue;
    uint32_t *link = &shared_[size_class];
    for (size_t kept = shared_count_[size_class] - count; kept > 0; kept--)
      link = &slots_[*link].next_free;
    while (Slot *slot = pop(link))
      slots.push_back(slot);
    shared_count_[size_class] -= count;
    shared_bytes_ -= count * class_bytes(size_class);
  }
  // Adjacent slots are released together.
  std::sort(slots.begin(), slots.end(), [](auto *a, auto *b) { return a->data < b->data; });
  for (size_t first = 0; first < slots.size();) {
    size_t bytes = 0;
    size_t next = first;
    for (; next < slots.size() && slots[next]->data == slots[first]->data + bytes; next++)
      bytes += class_bytes(slots[next]->size_class);
    release(slots[first]->data, bytes);
    first = next;
  }
  for (auto slot = slots.rbegin(); slot != slots.rend(); ++slot) {
    (*slot)->used_bytes = 0;
    push(&released_[(*slot)->size_class], **slot);
  }
  least_shared_ = shared_count_;
}

// The memory then reads as zeroes.
void SlotPool::release(uint8_t *data, size_t bytes) {
  if (madvise(data, bytes, MADV_DONTNEED) != 0)
    memset(data, 0, bytes); // the memory is locked, so it stays
}

} // namespace asyncnbd::backend
