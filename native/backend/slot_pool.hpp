// Memory that a script fills or reads for clients, in slots that it sees, too. What was one
// client's is zero before it is another's; what nobody has needed for a while goes back to the
// system.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace asyncnbd::backend {

// Not thread-safe. Slots stay where they are as long as the pool lives: a script may hold on to
// them, whatever it has been told.
class SlotPool {
public:
  static constexpr uint32_t NONE = UINT32_MAX;

  struct Slot {
    void *holder; // of the pool
    uint8_t *data;
    uint32_t index;
    uint32_t slab;
    uint32_t next_free;
    uint32_t used_bytes; // behind them, all is zero
    uint32_t owner;      // whose data that is, or NONE: it may be anyone's
    uint32_t generation; // of that owner
    uint8_t size_class;
    bool is_taken = false;
  };

  // Memory of slots of one size, side by side.
  struct Slab {
    uint8_t *data;
    uint32_t first_slot;
    uint32_t slot_bytes;
    uint32_t slots;
  };

  // `holder`: who can be asked for the pool where there is only a slot.
  explicit SlotPool(void *holder);
  ~SlotPool();
  SlotPool(const SlotPool &) = delete;
  SlotPool &operator=(const SlotPool &) = delete;

  // An owner is a client: what it has had in a slot, it may see there again.
  uint32_t add_owner();
  void remove_owner(uint32_t owner);

  struct Taken {
    Slot *slot;           // nullptr: there is no memory
    uint32_t stale_bytes; // another's: to be zeroed before anyone else sees the slot
  };
  Taken take(uint32_t length_bytes, uint32_t owner);
  void put(Slot &slot);
  // One of which it is not known whose data are in it.
  void put_stale(Slot &slot);

  // What a slot for so many bytes takes.
  static uint32_t slot_bytes(uint32_t length_bytes);

  Slot &slot(uint32_t index) { return slots_[index]; }
  bool has(uint32_t index) const { return index < slots_.size(); }
  const Slab &slab_of(const Slot &slot) const { return slabs_[slot.slab]; }

  // To be called from time to time: gives back what has not been needed since the last time. False:
  // there is nothing that could be given back, now or later.
  bool trim();

private:
  Taken taken(Slot &slot, uint32_t stale_bytes);
  void end_use(Slot &slot);

  static constexpr unsigned CLASSES = 15; // 4 KiB to 64 MiB

  // Free slots, the last one that was put first.
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
  Lists shared_;   // with data in them
  Lists released_; // without
  std::array<size_t, CLASSES> shared_count_{};
  std::array<size_t, CLASSES> least_shared_{}; // since the last trim
  size_t shared_bytes_ = 0;
  size_t taken_ = 0;
};

} // namespace asyncnbd::backend
