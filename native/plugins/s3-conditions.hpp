// Tests whether a store honours conditions of writes, and in which form.
#ifndef ASYNCNBD_S3_CONDITIONS_HPP
#define ASYNCNBD_S3_CONDITIONS_HPP

#include <optional>
#include <string>

#include "s3-store.hpp"
#include "s3-versions.hpp"

namespace s3 {

struct Conditions {
  bool are_used = false;      // false with single-writer=true
  bool quotes_etags = true;   // false for radosgw before version 17
  bool guard_deletes = false; // the store honours If-Match of a DELETE too
  bool removes_many = true;   // the store has DeleteObjects, as far as we know
  bool guard_batches = false; // it honours each object's ETag there, and If-Match of a DELETE

  /// The header for a write that may replace only this version, whose state must be known.
  std::string header(const Version &version) const {
    return version.state == Version::State::absent ? "If-None-Match: *"
                                                   : "If-Match: " + version.etag;
  }
  /// An ETag as the store sent it, in the form in which it is compared and sent back.
  std::string etag(const std::string &sent) const;
};

/// Creates an object for the test, and removes it. Waits for the store. No value on failure, after
/// nbdkit_error(), which suggests single-writer=true if the store does not honour conditions.
std::optional<Conditions> find_conditions(Store &store, const std::string &prefix);

} // namespace s3

#endif
