// Slots of one owner are zero before they are another's, and memory that nobody needs goes back.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <sys/mman.h>
#include <vector>

#include "backend/slot_pool.hpp"

using asyncnbd::backend::SlotPool;

namespace {

// As the bridge does it.
uint8_t *take(SlotPool &pool, uint32_t bytes, uint32_t owner, SlotPool::Slot **slot) {
  const SlotPool::Taken taken = pool.take(bytes, owner);
  REQUIRE(taken.slot != nullptr);
  memset(taken.slot->data, 0, taken.stale_bytes);
  *slot = taken.slot;
  return taken.slot->data;
}

bool is_zero(const uint8_t *data, size_t bytes) {
  return std::all_of(data, data + bytes, [](uint8_t byte) { return byte == 0; });
}

size_t resident_pages(const SlotPool::Slab &slab) {
  const size_t bytes = size_t{slab.slot_bytes} * slab.slots;
  std::vector<unsigned char> pages(bytes / 4096);
  REQUIRE(mincore(slab.data, bytes, pages.data()) == 0);
  return static_cast<size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

} // namespace

TEST_CASE("no owner sees what another left in a slot, whatever the lengths") {
  SlotPool pool(nullptr);
  const uint32_t rich = pool.add_owner();
  const uint32_t poor = pool.add_owner();
  for (uint32_t bytes : {1u, 512u, 4096u, 8000u, 200u << 10, 1u << 20}) {
    std::vector<SlotPool::Slot *> slots(300 << 10 < bytes ? 2 : 40);
    for (SlotPool::Slot *&slot : slots)
      memset(take(pool, bytes, rich, &slot), 'S', bytes);
    for (SlotPool::Slot *slot : slots)
      pool.put(*slot);
    const uint32_t fewer = bytes - bytes / 4;
    for (SlotPool::Slot *&slot : slots)
      CHECK(is_zero(take(pool, fewer, poor, &slot), SlotPool::slot_bytes(fewer)));
    for (SlotPool::Slot *slot : slots)
      pool.put(*slot);
  }
}

TEST_CASE("an owner gets its own slots back first, unchanged") {
  SlotPool pool(nullptr);
  const uint32_t one = pool.add_owner();
  const uint32_t other = pool.add_owner();
  SlotPool::Slot *mine;
  SlotPool::Slot *theirs;
  take(pool, 4096, one, &mine)[0] = 1;
  take(pool, 4096, other, &theirs)[0] = 2;
  pool.put(*mine);
  pool.put(*theirs);
  SlotPool::Taken taken = pool.take(4096, one);
  CHECK(taken.slot == mine);
  CHECK(taken.stale_bytes == 0);
}

TEST_CASE("a new owner with an old number is another owner") {
  SlotPool pool(nullptr);
  const uint32_t first = pool.add_owner();
  SlotPool::Slot *slot;
  SlotPool::Slot *late;
  memset(take(pool, 4096, first, &slot), 'S', 4096);
  memset(take(pool, 4096, first, &late), 'S', 4096);
  pool.put(*slot);
  pool.remove_owner(first);
  pool.put(*late); // given up, and answered after its client had gone
  REQUIRE(pool.add_owner() == first);
  for (int i = 0; i < 2; i++)
    CHECK(is_zero(take(pool, 512, first, &slot), 4096));
}

TEST_CASE("a slot with data of unknown origin is zeroed for everybody") {
  SlotPool pool(nullptr);
  const uint32_t rich = pool.add_owner();
  const uint32_t poor = pool.add_owner();
  for (const uint32_t next : {rich, poor}) {
    SlotPool::Slot *slot;
    memset(take(pool, 128 << 10, rich, &slot), 'S', 128 << 10);
    pool.put(*slot);
    pool.remove_owner(rich);
    REQUIRE(pool.add_owner() == rich); // who is another now
    const SlotPool::Taken taken = pool.take(128 << 10, rich);
    REQUIRE(taken.slot == slot);
    pool.put_stale(*slot);
    SlotPool::Slot *again;
    CHECK(is_zero(take(pool, 100 << 10, next, &again), 128 << 10));
    CHECK(again == slot);
    pool.put(*again);
  }
}

TEST_CASE("slots unused since the last check go back to the system") {
  SlotPool pool(nullptr);
  const uint32_t owner = pool.add_owner();
  std::vector<SlotPool::Slot *> slots(256); // one slab
  for (SlotPool::Slot *&slot : slots)
    memset(take(pool, 4096, owner, &slot), 'S', 4096);
  const SlotPool::Slab slab = pool.slab_of(*slots[0]);
  CHECK(resident_pages(slab) == 256);
  CHECK(pool.trim());
  CHECK(resident_pages(slab) == 256); // all in use
  for (SlotPool::Slot *slot : slots)
    pool.put(*slot);
  CHECK(pool.trim());
  while (pool.trim()) {
  }
  CHECK(resident_pages(slab) == 0);
  SlotPool::Slot *slot;
  CHECK(is_zero(take(pool, 4096, owner, &slot), 4096));
  CHECK(pool.slab_of(*slot).data == slab.data); // and is used again
}

TEST_CASE("free memory of another size makes room") {
  SlotPool pool(nullptr);
  const uint32_t owner = pool.add_owner();
  std::vector<SlotPool::Slot *> large(80);
  for (SlotPool::Slot *&slot : large)
    take(pool, 1 << 20, owner, &slot)[0] = 1;
  const SlotPool::Slab slab = pool.slab_of(*large[40]); // the first one its owner keeps
  for (SlotPool::Slot *slot : large)
    pool.put(*slot);
  CHECK(resident_pages(slab) == 1);
  SlotPool::Slot *slot;
  take(pool, 2 << 20, owner, &slot);
  CHECK(resident_pages(slab) == 0);
}
