// Memory for requests, side by side in slabs: what thousands of them have taken goes back to the
// system once they are over, which malloc would keep.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/mutex.hpp"
#include "connection/pending_request.hpp"

namespace asyncnbd::connection {

// Thread-safe. One of a process, as threads take requests from one connection to another.
class RequestSlabs {
public:
  static RequestSlabs &instance();

  // nullptr if memory is short.
  PendingRequest *make();
  // A chain that nobody uses.
  void destroy(PendingRequest *chain);

private:
  struct Slab;

  RequestSlabs() = default;
  static Slab *map();
  static Slab *slab_of(const PendingRequest *request);
  void link(Slab *slab);
  void unlink(Slab *slab);
  // Whether the slab is to be given back.
  bool put(PendingRequest *request);

  base::Mutex<base::LockRank::request_slabs> mutex_;
  Slab *with_room_ = nullptr;
  size_t empty_slabs_ = 0;
};

// Ends a chain of requests that nobody uses.
inline void destroy(PendingRequest *chain) {
  if (chain != nullptr)
    RequestSlabs::instance().destroy(chain);
}

} // namespace asyncnbd::connection
