// Whether a store honours conditions of writes, and how it wants them: asked by trying.
#ifndef ASYNCNBD_S3_CONDITIONS_HPP
#define ASYNCNBD_S3_CONDITIONS_HPP

#include <optional>
#include <string>

#include "s3-store.hpp"
#include "s3-versions.hpp"

namespace s3 {

struct Conditions {
  bool are_used = false;      // not with single-writer=true
  bool quotes_etags = true;   // not radosgw before version 17
  bool guard_deletes = false; // If-Match of a DELETE is honoured too

  /// The header for a write that is to replace just this version. Not of an unknown one.
  std::string header(const Version &version) const {
    return version.state == Version::State::absent ? "If-None-Match: *"
                                                   : "If-Match: " + version.etag;
  }
  /// An ETag as the store sent it, in the form in which it is compared and sent back.
  std::string etag(const std::string &sent) const;
};

/// With an object that is made for it and removed. Waits for the store. Nothing: nbdkit_error() has
/// been told, with single-writer=true as the way out if the store is at fault.
std::optional<Conditions> find_conditions(Store &store, const std::string &prefix);

} // namespace s3

#endif
