// Which objects of a volume there are, from listings.
#ifndef ASYNCNBD_S3_LISTING_HPP
#define ASYNCNBD_S3_LISTING_HPP

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "s3-layout.hpp"
#include "s3-store.hpp"

namespace s3 {

struct Listed {
  uint64_t object;
  uint64_t bytes;
  std::string etag; // as the store says it
};

struct Listing {
  std::vector<Listed> objects; // in their order
  /// All objects below this one are known to be there or not.
  uint64_t end = 0;
  std::string problem; // not empty: it failed, with `error`
  int error = 0;
};

/// Of the objects [first, end), in as many pages as it takes, `most_pages` at most. `done` is
/// called on the HTTP client's thread, once. Throws std::bad_alloc, and then does not call it.
void list_objects(Store &store, const Layout &layout, uint64_t first, uint64_t end,
                  unsigned most_pages, std::function<void(Listing)> done);

/// Waits for that: any thread but the HTTP client's.
Listing list_now(Store &store, const Layout &layout, uint64_t first, uint64_t end,
                 unsigned most_pages);

} // namespace s3

#endif
