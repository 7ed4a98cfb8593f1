// See slabs.hpp.
#include "base/slabs.hpp"

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "base/invariant.hpp"

namespace asyncnbd::base {

namespace {

// Also their alignment, by which the slab of a place is found.
constexpr size_t SLAB_BYTES = 64 << 10;
// Objects that come and go need not ask the system each time.
constexpr size_t MAX_EMPTY_SLABS = 4;

constexpr size_t round_up(size_t bytes, size_t alignment) {
  return (bytes + alignment - 1) & ~(alignment - 1);
}

// Memory that objects in a slab own is in use: the leak checker looks for pointers in what malloc
// has given, and would not see that.
void watch_for_leaks([[maybe_unused]] void *slab) {
#ifdef __SANITIZE_ADDRESS__
  __lsan_register_root_region(slab, SLAB_BYTES);
#endif
}

void unmap(void *slab) {
#ifdef __SANITIZE_ADDRESS__
  __lsan_unregister_root_region(slab, SLAB_BYTES);
#endif
  munmap(slab, SLAB_BYTES);
}

} // namespace

struct Slabs::Slab {
  Slabs *owner;
  Slab *next; // in the same list
  Slab *previous;
  Place *free;    // were in use before
  uint32_t fresh; // from this one on, none has been
  uint32_t in_use;
};

Slabs::Slabs(size_t bytes, size_t alignment)
    : bytes_(round_up(bytes, alignment)), first_(round_up(sizeof(Slab), alignment)),
      places_(static_cast<uint32_t>((SLAB_BYTES - first_) / bytes_)) {}

Slabs::~Slabs() {
  invariant(slabs_ == empty_slabs_, "slabs outlive what lies in them");
  while (empty_ != nullptr)
    unmap(std::exchange(empty_, empty_->next));
}

Slabs::Slab *Slabs::map() {
  void *memory =
      mmap(nullptr, 2 * SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return nullptr;
  const auto start = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t aligned = round_up(start, SLAB_BYTES);
  if (aligned > start)
    munmap(memory, aligned - start);
  if (const size_t behind = start + SLAB_BYTES - aligned; behind > 0)
    munmap(reinterpret_cast<void *>(aligned + SLAB_BYTES), behind);
  slabs_++;
  watch_for_leaks(reinterpret_cast<void *>(aligned));
  return new (reinterpret_cast<void *>(aligned)) Slab{this, nullptr, nullptr, nullptr, 0, 0};
}

Slabs::Slab *Slabs::slab_of(const Place *place) {
  return reinterpret_cast<Slab *>(reinterpret_cast<uintptr_t>(place) & ~(SLAB_BYTES - 1));
}

void Slabs::link(Slab **list, Slab *slab) {
  slab->previous = nullptr;
  slab->next = std::exchange(*list, slab);
  if (slab->next != nullptr)
    slab->next->previous = slab;
}

void Slabs::unlink(Slab **list, Slab *slab) {
  (slab->previous != nullptr ? slab->previous->next : *list) = slab->next;
  if (slab->next != nullptr)
    slab->next->previous = slab->previous;
}

void *Slabs::get() {
  std::lock_guard lock(mutex_);
  Slab *slab = with_room_;
  if (slab == nullptr) {
    if (empty_ != nullptr) {
      slab = empty_;
      unlink(&empty_, slab);
      empty_slabs_--;
    } else if ((slab = map()) == nullptr) {
      return nullptr;
    }
    link(&with_room_, slab);
  }
  void *place = slab->free;
  if (place != nullptr)
    slab->free = slab->free->next;
  else
    place = reinterpret_cast<uint8_t *>(slab) + first_ + bytes_ * slab->fresh++;
  if (++slab->in_use == places_)
    unlink(&with_room_, slab);
  return place;
}

// Whether the slab is to be given back.
bool Slabs::put_one(Slab *slab, Place *place) {
  place->next = std::exchange(slab->free, place);
  if (slab->in_use == places_)
    link(&with_room_, slab);
  if (--slab->in_use > 0)
    return false;
  unlink(&with_room_, slab);
  if (empty_slabs_ == MAX_EMPTY_SLABS) {
    slabs_--;
    return true;
  }
  empty_slabs_++;
  link(&empty_, slab);
  return false;
}

// Those at the beginning of the chain that are this one's. Returns the others.
Slabs::Place *Slabs::put_some(Place *chain, Slab **unused) {
  std::lock_guard lock(mutex_);
  while (chain != nullptr && slab_of(chain)->owner == this) {
    Slab *slab = slab_of(chain);
    if (put_one(slab, std::exchange(chain, chain->next)))
      slab->next = std::exchange(*unused, slab);
  }
  return chain;
}

void Slabs::put(Place *chain) {
  Slab *unused = nullptr;
  while (chain != nullptr)
    chain = slab_of(chain)->owner->put_some(chain, &unused);
  while (unused != nullptr) // others need not wait for this
    unmap(std::exchange(unused, unused->next));
}

size_t Slabs::mapped_bytes() {
  std::lock_guard lock(mutex_);
  return slabs_ * SLAB_BYTES;
}

} // namespace asyncnbd::base
