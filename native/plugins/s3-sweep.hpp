// Removes all objects in a range of a volume: lists them, a page at a time.
#ifndef ASYNCNBD_S3_SWEEP_HPP
#define ASYNCNBD_S3_SWEEP_HPP

#include <cstdint>
#include <memory>

#include "s3-layout.hpp"
#include "s3-objects.hpp"
#include "s3-store.hpp"

namespace s3 {

/// Removes the objects [first, end), and releases `parts` when all are removed. Throws
/// std::bad_alloc if it has not begun.
void sweep(Store &store, const Layout &layout, Objects &objects, uint64_t first, uint64_t end,
           const std::shared_ptr<Parts> &parts);

} // namespace s3

#endif
