// The few elements of a store's XML that the s3 plugin reads: of errors, listings and STS.
//
// S3's documents are flat and made by programs: no attributes of importance, no comments, no CDATA,
// no element inside of one of its own name. For that a search for "<Name>…</Name>" is exact,
// bounded by the document's own size, and needs no library to be found at run time; what has
// another form is not found, which is an error to those who ask.
#ifndef ASYNCNBD_S3_XML_HPP
#define ASYNCNBD_S3_XML_HPP

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace s3 {

/// What is between the first <name> and its end, entities and all.
std::optional<std::string_view> inside(std::string_view document, std::string_view name);

/// The same as text, "" if it is not there. Entities are replaced.
std::string text_of(std::string_view document, std::string_view name);

/// Calls `each` with what is inside of each <name>, one after the other.
void for_each(std::string_view document, std::string_view name,
              const std::function<void(std::string_view)> &each);

} // namespace s3

#endif
