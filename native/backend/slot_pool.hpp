// Memory that a script fills or reads for clients, in slots that both sides see. A slot is zeroed
// before another client uses it; memory that nobody has needed for a while goes back to the system.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace asyncnbd::backend {

// Not thread-safe. Slots keep their addresses as long as the pool lives: a script may hold on to
// them, although it must not.
class SlotPool {
public:
  static constexpr uint32_t NONE = UINT32_MAX;

  struct Slot {
    void *holder; // the owner of the pool
    uint8_t *data;
    uint32_t index;
    uint32_t slab;
    uint32_t next_free;
    uint32_t used_bytes; // everything after them is zero
    uint32_t owner;      // whose data it is, or NONE if it may be anyone's
    uint32_t generation; // of that owner
    uint8_t size_class;
    bool is_taken = false;
  };

  // Memory for adjacent slots of one size.
  struct Slab {
    uint8_t *data;
    uint32_t first_slot;
    uint32_t slot_bytes;
    uint32_t slots;
  };

  // `holder`: leads from a slot to the owner of the pool.
  explicit SlotPool(void *holder);
  ~SlotPool();
  SlotPool(const SlotPool &) = delete;
  SlotPool &operator=(const SlotPool &) = delete;

  // An owner is a client: it may see its own old data in a slot.
  uint32_t add_owner();
  void remove_owner(uint32_t owner);

  struct Taken {
    Slot *slot;           // nullptr: no memory
    uint32_t stale_bytes; // another owner's data: zero it before anyone sees the slot
  };
  Taken take(uint32_t length_bytes, uint32_t owner);
  void put(Slot &slot);
  // Puts back a slot that may contain anyone's data.
  void put_stale(Slot &slot);

  // The size of a slot for this many bytes.
  static uint32_t slot_bytes(uint32_t length_bytes);

  Slot &slot(uint32_t index) { return slots_[index]; }
  bool has(uint32_t index) const { return index < slots_.size(); }
  const Slab &slab_of(const Slot &slot) const { return slabs_[slot.slab]; }

  // Called periodically: gives back memory that has not been needed since the last call. False:
  // nothing can be given back, now or later.
  bool trim();

private:
  Taken taken(Slot &slot, uint32_t stale_bytes);
  void end_use(Slot &slot);

  static constexpr unsigned CLASSES = 15; // 4 KiB to 64 MiB

  // Free slots, the most recent first.
  using Lists = std::array<uint32_t, CLASSES>;
  struct Owner {
    Lists free;
    uint32_t kept_bytes;
    uint32_t generation;
    bool is_used; // since the last trim
    uint32_t next_free;
  };

  Slot *pop(uint32_t *list);
  void push(uint32_t *list, Slot &slot);
  void push_shared(Slot &slot);
  bool grow(unsigned size_class);
  void give_up_kept(Owner &owner);
  void release_shared(const std::array<size_t, CLASSES> &counts);
  static void release(uint8_t *data, size_t bytes);

  void *const holder_;
  std::vector<Slab> slabs_;
  std::deque<Slot> slots_;
  std::deque<Owner> owners_;
  uint32_t free_owners_ = NONE;
  Lists shared_;   // with data
  Lists released_; // without data
  std::array<size_t, CLASSES> shared_count_{};
  std::array<size_t, CLASSES> least_shared_{}; // since the last trim
  size_t shared_bytes_ = 0;
  size_t taken_ = 0;
};

} // namespace asyncnbd::backend
