// Reads the few XML elements that the s3 plugin needs from a store's errors and lists, and from
// STS. These documents are flat and made by programs: no important attributes, no comments, no
// CDATA, no element inside one of the same name. So a search for "<Name>…</Name>" is exact, takes
// no longer than the document is long, and needs no library. Callers treat an element that is not
// found as an error.
#ifndef ASYNCNBD_S3_XML_HPP
#define ASYNCNBD_S3_XML_HPP

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace s3 {

/// The text between the first <name> and its end tag, with entities.
std::optional<std::string_view> inside(std::string_view document, std::string_view name);

/// The same with entities replaced; "" if there is no such element.
std::string text_of(std::string_view document, std::string_view name);

/// Calls `each` with the content of each <name>, one after the other.
void for_each(std::string_view document, std::string_view name,
              const std::function<void(std::string_view)> &each);

} // namespace s3

#endif
