// What new and delete do in a simulated run: memory is counted, and overwritten when it is given
// back, so that who still uses it finds nonsense.
#include "memory.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include <malloc.h>

#include "fibers.hpp"
#include "memory_order.hpp"

namespace simulation {

namespace {

constexpr int NONSENSE = 0xdb;
int64_t pieces = 0;

void *take(size_t bytes, size_t alignment) {
  void *memory = aligned_alloc(alignment, (bytes + alignment - 1) & ~(alignment - 1));
  if (memory == nullptr)
    abort();
  memset(memory, NONSENSE, bytes);
  pieces++;
  return memory;
}

void give_back(void *memory) {
  if (memory == nullptr)
    return;
  const size_t bytes = malloc_usable_size(memory);
  // Else they would hit what comes to be there next. Not all stores: what the simulation itself
  // gives back, whose tables grow in the first runs alone, must not change what others see.
  show_stores_into(current_fiber(), memory, bytes);
  memset(memory, NONSENSE, bytes);
  pieces--;
  free(memory);
}

} // namespace

int64_t pieces_in_use() {
  return pieces;
}

} // namespace simulation

void *operator new(size_t bytes) {
  return simulation::take(bytes, alignof(std::max_align_t));
}
void *operator new(size_t bytes, std::align_val_t alignment) {
  return simulation::take(bytes, static_cast<size_t>(alignment));
}
void operator delete(void *memory) noexcept {
  simulation::give_back(memory);
}
void operator delete(void *memory, size_t) noexcept {
  simulation::give_back(memory);
}
void operator delete(void *memory, std::align_val_t) noexcept {
  simulation::give_back(memory);
}
void operator delete(void *memory, size_t, std::align_val_t) noexcept {
  simulation::give_back(memory);
}
