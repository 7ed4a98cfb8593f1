// See s3-removals.hpp.
#include "s3-removals.hpp"

#include "s3-xml.hpp"

namespace s3 {

namespace {

std::string escaped(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    if (c == '&' || c == '<' || c == '>' || c == '"' || static_cast<unsigned char>(c) < ' ')
      result += "&#" + std::to_string(static_cast<int>(c)) + ";";
    else
      result += c;
  }
  return result;
}

} // namespace

std::string removals_document(std::span<const Removal> removals) {
  std::string document = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
  for (const Removal &removal : removals) {
    document += "<Object><Key>" + escaped(removal.name) + "</Key>";
    if (!removal.etag.empty())
      document += "<ETag>" + escaped(removal.etag) + "</ETag>";
    document += "</Object>";
  }
  return document + "</Delete>";
}

std::map<std::string, Removed> removals_in(std::string_view document) {
  std::map<std::string, Removed> results;
  const std::string_view result = inside(document, "DeleteResult").value_or("");
  for_each(result, "Deleted",
           [&](std::string_view inner) { results[text_of(inner, "Key")] = Removed::yes; });
  for_each(result, "Error", [&](std::string_view inner) {
    const std::string code = text_of(inner, "Code");
    results[text_of(inner, "Key")] = code == "NoSuchKey"            ? Removed::yes
                                     : code == "PreconditionFailed" ? Removed::refused
                                                                    : Removed::failed;
  });
  return results;
}

} // namespace s3
