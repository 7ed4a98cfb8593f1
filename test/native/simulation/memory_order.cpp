// What the compiler calls for each access to memory of the sources under test, which it has
// compiled as for ThreadSanitizer: at each atomic access another thread may go on. A store that is
// not sequentially consistent may be seen late, though never by its own thread, nor after a later
// one, nor after what orders it: an exchange, a lock, a call into the system.
#include "memory_order.hpp"

#include <cstdint>
#include <cstring>

namespace simulation {

namespace {

// The values that the compiler passes: C++'s memory orders.
constexpr int SEQUENTIALLY_CONSISTENT = __ATOMIC_SEQ_CST;
constexpr size_t MAX_DELAYED = 8;

void show_oldest(Fiber &fiber) {
  const DelayedStore store = fiber.stores.front();
  fiber.stores.erase(fiber.stores.begin());
  memcpy(store.to, &store.value, store.bytes);
}

template <typename T> T load(const volatile void *from) {
  may_switch();
  const Fiber &self = current_fiber();
  for (size_t i = self.stores.size(); i-- > 0;)
    if (self.stores[i].to == from)
      return static_cast<T>(self.stores[i].value);
  return *static_cast<const volatile T *>(from);
}

template <typename T> void store(volatile void *to, T value, int order) {
  may_switch();
  Fiber &self = current_fiber();
  const uint64_t delay_one_in = chances_of_run().delay_store_one_in;
  const bool is_delayed = order != SEQUENTIALLY_CONSISTENT && delay_one_in > 0 &&
                          is_run_going_on() &&
                          (!self.stores.empty() || random_of_run().one_in(delay_one_in));
  if (!is_delayed) {
    show_stores(self);
    *static_cast<volatile T *>(to) = value;
    return;
  }
  if (self.stores.size() == MAX_DELAYED)
    show_oldest(self);
  self.stores.push_back({const_cast<void *>(to), sizeof(T), static_cast<unsigned __int128>(value)});
}

// Changes what is there at once. Returns what was there.
template <typename T, typename Change> T change(volatile void *place, Change change) {
  may_switch();
  show_stores(current_fiber());
  auto *at = static_cast<volatile T *>(place);
  const T before = *at;
  *at = change(before);
  return before;
}

template <typename T>
bool compare_exchange(volatile void *place, void *expected, T desired, bool is_weak) {
  may_switch();
  show_stores(current_fiber());
  auto *at = static_cast<volatile T *>(place);
  auto *known = static_cast<T *>(expected);
  const uint64_t fail_one_in = chances_of_run().wake_spuriously_one_in;
  const bool fails =
      is_weak && fail_one_in > 0 && is_run_going_on() && random_of_run().one_in(fail_one_in);
  const T before = *at;
  if (before == *known && !fails) {
    *at = desired;
    return true;
  }
  *known = before;
  return false;
}

} // namespace

void show_stores(Fiber &fiber) {
  while (!fiber.stores.empty())
    show_oldest(fiber);
}

void show_stores_into(Fiber &fiber, const void *memory, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  for (const DelayedStore &store : fiber.stores)
    if (reinterpret_cast<uintptr_t>(store.to) - begin < bytes) {
      show_stores(fiber);
      return;
    }
}

void show_some_stores(Fiber &fiber, Random &random) {
  while (!fiber.stores.empty() && random.one_in(chances_of_run().show_store_one_in))
    show_oldest(fiber);
}

} // namespace simulation

using namespace simulation;

extern "C" {

#define ATOMICS(bits, type)                                                                        \
  type __tsan_atomic##bits##_load(const volatile type *from, int) {                                \
    return load<type>(from);                                                                       \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile type *to, type value, int order) {                     \
    store<type>(to, value, order);                                                                 \
  }                                                                                                \
  type __tsan_atomic##bits##_exchange(volatile type *at, type value, int) {                        \
    return change<type>(at, [value](type) { return value; });                                      \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_add(volatile type *at, type value, int) {                       \
    return change<type>(at, [value](type before) { return static_cast<type>(before + value); });   \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_sub(volatile type *at, type value, int) {                       \
    return change<type>(at, [value](type before) { return static_cast<type>(before - value); });   \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_and(volatile type *at, type value, int) {                       \
    return change<type>(at, [value](type before) { return static_cast<type>(before & value); });   \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_or(volatile type *at, type value, int) {                        \
    return change<type>(at, [value](type before) { return static_cast<type>(before | value); });   \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile type *at, type *expected,            \
                                                     type desired, int, int) {                     \
    return compare_exchange<type>(at, expected, desired, false);                                   \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile type *at, type *expected,              \
                                                   type desired, int, int) {                       \
    return compare_exchange<type>(at, expected, desired, true);                                    \
  }

ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)

void __tsan_atomic_thread_fence(int) {
  may_switch();
  show_stores(current_fiber());
}
void __tsan_atomic_signal_fence(int) {}

// Accesses that are not atomic: nobody is interrupted at them.
#define PLAIN(bytes)                                                                               \
  void __tsan_read##bytes(void *) {}                                                               \
  void __tsan_write##bytes(void *) {}                                                              \
  void __tsan_unaligned_read##bytes(void *) {}                                                     \
  void __tsan_unaligned_write##bytes(void *) {}

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)
void __tsan_read_range(void *, size_t) {}
void __tsan_write_range(void *, size_t) {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
