// What a thread takes along from one connection to the next: requests and buffers that nobody uses
// and that are still in its cache. Of many connections each would find its own in none.
#pragma once

#include "base/buffers.hpp"
#include "nbd/pending_request.hpp"

namespace asyncnbd::nbd {

struct ThreadCache {
  PendingRequest *requests = nullptr; // a chain, of MAX_REQUESTS at the most
  base::Buffer *input = nullptr;
  base::Buffer *output = nullptr; // which has never had anything but headers of replies

  ThreadCache() = default;
  ~ThreadCache();
  ThreadCache(const ThreadCache &) = delete;
  ThreadCache &operator=(const ThreadCache &) = delete;

  // More than there may be are ended.
  void add(PendingRequest *chain);

  static ThreadCache &of_this_thread();

private:
  static constexpr unsigned MAX_REQUESTS = 512; // few turns need more

  unsigned count_ = 0; // of `requests`, unless they were taken
};

} // namespace asyncnbd::nbd
