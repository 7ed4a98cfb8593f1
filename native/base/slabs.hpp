// Memory for objects of one kind, side by side in slabs: what thousands of them have taken goes
// back to the system once they are over, which malloc would keep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "base/mutex.hpp"

namespace asyncnbd::base {

// Thread-safe. Outlives what it has given.
class Slabs {
public:
  // What is in memory that nobody uses.
  struct Place {
    Place *next;
  };

  // A slab has room for many of this size.
  Slabs(size_t bytes, size_t alignment);
  ~Slabs();
  Slabs(const Slabs &) = delete;
  Slabs &operator=(const Slabs &) = delete;

  // nullptr if memory is short.
  void *get();
  // A chain of what was given, by whichever Slabs.
  static void put(Place *chain);

  // What it has of the system's memory.
  size_t mapped_bytes();

private:
  struct Slab;

  Slab *map();
  static Slab *slab_of(const Place *place);
  static void link(Slab **list, Slab *slab);
  static void unlink(Slab **list, Slab *slab);
  Place *put_some(Place *chain, Slab **unused);
  bool put_one(Slab *slab, Place *place);

  const size_t bytes_;
  const size_t first_;    // where in a slab the first place is
  const uint32_t places_; // in a slab
  Mutex<LockRank::slabs> mutex_;
  Slab *with_room_ = nullptr; // of those in which something is in use
  Slab *empty_ = nullptr;
  size_t empty_slabs_ = 0;
  size_t slabs_ = 0;
};

template <typename T> class SlabsOf {
public:
  SlabsOf() : slabs_(sizeof(T), alignof(T)) {}

  // nullptr if memory is short.
  template <typename... Arguments> T *make(Arguments &&...arguments) {
    void *place = slabs_.get();
    return place != nullptr ? new (place) T(std::forward<Arguments>(arguments)...) : nullptr;
  }
  static void destroy(T *object) { Slabs::put(end(object, nullptr)); }
  // Those that are linked by `next`.
  static void destroy_chain(T *chain) {
    Slabs::Place *places = nullptr;
    while (chain != nullptr) {
      T *object = std::exchange(chain, chain->next);
      places = end(object, places);
    }
    Slabs::put(places);
  }

  size_t mapped_bytes() { return slabs_.mapped_bytes(); }

private:
  static Slabs::Place *end(T *object, Slabs::Place *next) {
    std::destroy_at(object);
    return new (static_cast<void *>(object)) Slabs::Place{next};
  }

  Slabs slabs_;
};

} // namespace asyncnbd::base
