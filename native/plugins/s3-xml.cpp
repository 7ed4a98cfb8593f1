// See s3-xml.hpp.
#include "s3-xml.hpp"

#include <charconv>
#include <cstdint>

namespace s3 {

namespace {

/// Appends a character as UTF-8; an invalid one is left out.
void append_character(std::string &text, uint32_t code) {
  if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
    return;
  const auto tail = [&](unsigned shift) {
    text += static_cast<char>(0x80 | ((code >> shift) & 0x3f));
  };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xc0 | (code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xe0 | (code >> 12));
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xf0 | (code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

/// False: not an XML entity.
bool append_entity(std::string &text, std::string_view name) {
  if (name.starts_with('#')) {
    const bool is_hex = name.starts_with("#x");
    name.remove_prefix(is_hex ? 2 : 1);
    uint32_t code = 0;
    const auto [end, error] =
        std::from_chars(name.data(), name.data() + name.size(), code, is_hex ? 16 : 10);
    if (error != std::errc() || end != name.data() + name.size())
      return false;
    append_character(text, code);
    return true;
  }
  const char character = name == "amp"    ? '&'
                         : name == "lt"   ? '<'
                         : name == "gt"   ? '>'
                         : name == "quot" ? '"'
                         : name == "apos" ? '\''
                                          : '\0';
  if (character != '\0')
    text += character;
  return character != '\0';
}

constexpr size_t LONGEST_NAME = 16; // of an entity, including the ';'

struct Element {
  std::string_view inner;
  size_t end; // after the end tag
};

std::optional<Element> find_element(std::string_view document, std::string_view name, size_t from) {
  constexpr size_t none = std::string_view::npos;
  const std::string open = std::string("<").append(name);
  size_t begin = document.find(open, from);
  while (begin != std::string_view::npos) {
    const size_t after = begin + open.size();
    // <Keys> must not match <Key>; attributes are allowed.
    if (after < document.size() && std::string_view("> /").find(document[after]) != none) {
      const size_t inner = document.find('>', after);
      if (inner == std::string_view::npos)
        return std::nullopt;
      if (document[inner - 1] == '/')
        return Element{{}, inner + 1};
      const std::string close = std::string("</").append(name).append(">");
      const size_t end = document.find(close, inner);
      if (end == std::string_view::npos)
        return std::nullopt;
      return Element{document.substr(inner + 1, end - inner - 1), end + close.size()};
    }
    begin = document.find(open, after);
  }
  return std::nullopt;
}

} // namespace

std::optional<std::string_view> inside(std::string_view document, std::string_view name) {
  const std::optional<Element> found = find_element(document, name, 0);
  return found ? std::optional(found->inner) : std::nullopt;
}

std::string text_of(std::string_view document, std::string_view name) {
  const std::string_view inner = inside(document, name).value_or("");
  std::string text;
  size_t at = 0;
  while (at < inner.size()) {
    const size_t begin = inner[at] == '&' ? at : std::string_view::npos;
    const std::string_view name = // not the whole rest: the answer may have millions of '&'
        begin == std::string_view::npos ? std::string_view()
                                        : inner.substr(begin + 1, LONGEST_NAME);
    const size_t end = name.find(';');
    if (end != std::string_view::npos && append_entity(text, name.substr(0, end))) {
      at = begin + 1 + end + 1;
    } else {
      text += inner[at++];
    }
  }
  return text;
}

void for_each(std::string_view document, std::string_view name,
              const std::function<void(std::string_view)> &each) {
  size_t from = 0;
  while (const std::optional<Element> found = find_element(document, name, from)) {
    each(found->inner);
    from = found->end;
  }
}

} // namespace s3
