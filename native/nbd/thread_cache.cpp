// See thread_cache.hpp.
#include "nbd/thread_cache.hpp"

#include <utility>

#include "base/thread_end.hpp"

namespace asyncnbd::nbd {

ThreadCache::~ThreadCache() {
  destroy(requests);
  for (base::Buffer *buffer : {input, output})
    if (buffer != nullptr)
      base::BufferPool::destroy(buffer);
}

void ThreadCache::add(PendingRequest *chain) {
  if (requests == nullptr)
    count_ = 0; // they were taken
  if (chain == nullptr || count_ == MAX_REQUESTS) {
    destroy(chain);
    return;
  }
  PendingRequest *last = chain;
  for (;; last = last->next) {
    // May be large, and were admitted by a connection that may soon be gone.
    last->extras.reset();
    last->encoded.reset();
    if (++count_ == MAX_REQUESTS || last->next == nullptr)
      break;
  }
  PendingRequest *rest = std::exchange(last->next, requests);
  requests = chain;
  destroy(rest);
}

ThreadCache &ThreadCache::of_this_thread() {
  constinit static thread_local ThreadCache *cache = nullptr;
  return cache != nullptr ? *cache : base::make_for_thread(cache);
}

} // namespace asyncnbd::nbd
