// See request_slabs.hpp.
#include "connection/request_slabs.hpp"

#include <memory>
#include <new>
#include <sys/mman.h>
#include <utility>

namespace asyncnbd::connection {

namespace {

// Also their alignment, by which a request's slab is found.
constexpr size_t SLAB_BYTES = 64 << 10;
// Connections that come and go need not ask the system each time.
constexpr size_t MAX_EMPTY_SLABS = 4;

union Place {
  Place *next_free;
  alignas(PendingRequest) uint8_t request[sizeof(PendingRequest)];
};

} // namespace

struct RequestSlabs::Slab {
  static constexpr uint32_t PLACES = (SLAB_BYTES - 64) / sizeof(Place);

  Slab *next; // of those with room
  Slab *previous;
  Place *free;    // were in use before
  uint32_t fresh; // from this one on, none has been
  uint32_t in_use;
  Place places[PLACES];

  bool is_full() const { return in_use == PLACES; }
};

// Never destroyed: threads may end after it.
RequestSlabs &RequestSlabs::instance() {
  static auto *slabs = new RequestSlabs;
  return *slabs;
}

RequestSlabs::Slab *RequestSlabs::map() {
  static_assert(sizeof(Slab) <= SLAB_BYTES);
  void *memory =
      mmap(nullptr, 2 * SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return nullptr;
  const auto start = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t aligned = (start + SLAB_BYTES - 1) & ~(SLAB_BYTES - 1);
  if (aligned > start)
    munmap(memory, aligned - start);
  if (const size_t behind = start + SLAB_BYTES - aligned; behind > 0)
    munmap(reinterpret_cast<void *>(aligned + SLAB_BYTES), behind);
  return reinterpret_cast<Slab *>(aligned); // all zero, as an empty one is
}

RequestSlabs::Slab *RequestSlabs::slab_of(const PendingRequest *request) {
  return reinterpret_cast<Slab *>(reinterpret_cast<uintptr_t>(request) & ~(SLAB_BYTES - 1));
}

void RequestSlabs::link(Slab *slab) {
  slab->previous = nullptr;
  slab->next = std::exchange(with_room_, slab);
  if (slab->next != nullptr)
    slab->next->previous = slab;
}

void RequestSlabs::unlink(Slab *slab) {
  (slab->previous != nullptr ? slab->previous->next : with_room_) = slab->next;
  if (slab->next != nullptr)
    slab->next->previous = slab->previous;
}

PendingRequest *RequestSlabs::make() {
  std::lock_guard lock(mutex_);
  Slab *slab = with_room_;
  if (slab == nullptr) {
    if ((slab = map()) == nullptr)
      return nullptr;
    link(slab);
  } else if (slab->in_use == 0) {
    empty_slabs_--;
  }
  Place *place = slab->free;
  if (place != nullptr)
    slab->free = place->next_free;
  else
    place = &slab->places[slab->fresh++];
  slab->in_use++;
  if (slab->is_full())
    unlink(slab);
  return new (place->request) PendingRequest;
}

bool RequestSlabs::put(PendingRequest *request) {
  Slab *slab = slab_of(request);
  std::destroy_at(request);
  auto *place = reinterpret_cast<Place *>(request);
  place->next_free = std::exchange(slab->free, place);
  if (slab->is_full())
    link(slab);
  if (--slab->in_use > 0)
    return false;
  unlink(slab);
  if (empty_slabs_ == MAX_EMPTY_SLABS)
    return true;
  empty_slabs_++;
  link(slab);
  return false;
}

void RequestSlabs::destroy(PendingRequest *chain) {
  Slab *unused = nullptr;
  {
    std::lock_guard lock(mutex_);
    while (chain != nullptr) {
      PendingRequest *request = std::exchange(chain, chain->next);
      if (put(request)) {
        Slab *slab = slab_of(request);
        slab->next = std::exchange(unused, slab);
      }
    }
  }
  while (unused != nullptr) // others need not wait for this
    munmap(std::exchange(unused, unused->next), SLAB_BYTES);
}

} // namespace asyncnbd::connection
