// Lists the objects of a volume.
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
  std::string etag; // as the store sent it
};

struct Listing {
  std::vector<Listed> objects; // in ascending order
  /// The list is complete up to this object, exclusive.
  uint64_t end = 0;
  std::string problem; // not empty: it failed, with `error`
  int error = 0;
};

/// Lists the objects [first, end), in at most `most_pages` pages. `done` is called once, on the
/// HTTP client's thread, unless this throws std::bad_alloc.
void list_objects(Store &store, const Layout &layout, uint64_t first, uint64_t end,
                  unsigned most_pages, std::function<void(Listing)> done);

/// The same, but waits for the result. Call it on any thread except the HTTP client's.
Listing list_now(Store &store, const Layout &layout, uint64_t first, uint64_t end,
                 unsigned most_pages);

} // namespace s3

#endif
