// DeleteObjects of S3: the document that asks for the removal of many objects, and its answer.
#ifndef ASYNCNBD_S3_REMOVALS_HPP
#define ASYNCNBD_S3_REMOVALS_HPP

#include <map>
#include <span>
#include <string>
#include <string_view>

namespace s3 {

// By one request. S3 allows 1000, but some stores remove objects one after the other. They must be
// done before we give up: otherwise they would go on, and remove what has been written meanwhile.
constexpr size_t MOST_REMOVALS = 100;

struct Removal {
  std::string name;
  std::string etag; // "": any version
};

std::string removals_document(std::span<const Removal> removals);

enum class Removed {
  yes,     // it does not exist any more
  refused, // it has another ETag
  failed,  // for another reason, such as an overload
};

/// What the answer says of each object, by name. An object that it does not name counts as not
/// removed.
std::map<std::string, Removed> removals_in(std::string_view document);

} // namespace s3

#endif
