// See page_cache.hpp.
#include "base/page_cache.hpp"

#include <sys/syscall.h>
#include <unistd.h>

namespace asyncnbd::base {

namespace {

// cachestat(2), which has the same number on all of our machines, and no declaration on old ones.
constexpr long CACHESTAT = 451;
struct CacheRange {
  uint64_t offset;
  uint64_t length_bytes;
};
struct CachedPages {
  uint64_t cached;
  uint64_t dirty;
  uint64_t under_writeback;
  uint64_t evicted;
  uint64_t recently_evicted;
};

const auto page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));

} // namespace

bool is_cached(int fd, uint64_t offset, uint64_t length_bytes) {
  const CacheRange range{offset, length_bytes};
  CachedPages pages{};
  if (syscall(CACHESTAT, fd, &range, &pages, 0) == -1)
    return false;
  const uint64_t first = offset / page_bytes;
  const uint64_t end = (offset + length_bytes + page_bytes - 1) / page_bytes;
  return pages.cached >= end - first;
}

} // namespace asyncnbd::base
