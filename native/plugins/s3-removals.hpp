// DeleteObjects of S3: the document that asks for the removal of many objects, and its answer.
#ifndef ASYNCNBD_S3_REMOVALS_HPP
#define ASYNCNBD_S3_REMOVALS_HPP

#include <map>
#include <span>
#include <string>
#include <string_view>

namespace s3 {

// In one request. S3 takes 1000, but some stores remove one after the other, and must end in time:
// they would go on after we have given up, and remove what has been written meanwhile.
constexpr size_t MOST_REMOVALS = 100;

struct Removal {
  std::string name;
  std::string etag; // "": whatever the object's version is
};

std::string removals_document(std::span<const Removal> removals);

enum class Removed {
  yes,     // it is not there any more
  refused, // it has another ETag
  failed,  // for another reason, such as an overload
};

/// What the answer says, by name. Names that are missing there have not been removed, as far as we
/// know.
std::map<std::string, Removed> removals_in(std::string_view document);

} // namespace s3

#endif
