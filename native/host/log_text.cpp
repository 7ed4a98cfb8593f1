// See log_text.hpp.
#include "host/log_text.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>

namespace asyncnbd::host {

namespace {

constexpr std::string_view HIDDEN = "***";

// The code point of a UTF-8 sequence that must be escaped, and its length in bytes; 0 if the text
// here may be printed.
struct Special {
  uint32_t code_point = 0;
  size_t bytes = 0;
};

bool is_special(uint32_t code_point) {
  return (code_point >= 0x80 && code_point < 0xa0) ||      // C1 controls
         (code_point >= 0x200e && code_point <= 0x200f) || // direction marks
         (code_point >= 0x2028 && code_point <= 0x202e) || // separators, embeddings, overrides
         (code_point >= 0x2066 && code_point <= 0x2069);   // isolates
}

Special special_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(at);
  if (first < 0x20 || first == 0x7f)
    return {first, 1};
  const size_t left = text.size() - at;
  uint32_t code_point = 0;
  size_t bytes = 0;
  if (first == 0xc2 && left >= 2) {
    code_point = byte(at + 1);
    bytes = 2;
  } else if (first == 0xe2 && left >= 3) {
    code_point = 0x2000u | (byte(at + 1) & 0x3fu) << 6 | (byte(at + 2) & 0x3fu);
    bytes = 3;
  }
  return bytes > 0 && is_special(code_point) ? Special{code_point, bytes} : Special{};
}

void append_escaped(std::string &to, const Special &special) {
  char code[sizeof "\\u202e"];
  if (special.code_point == '\n')
    to += "\\n";
  else if (special.code_point == '\t')
    to += "\\t";
  else if (special.code_point == '\r')
    to += "\\r";
  else if (snprintf(code, sizeof code, special.bytes == 1 ? "\\x%02x" : "\\u%04x",
                    special.code_point) > 0)
    to += code;
}

// `left`: characters that are not escaped.
std::string escaped_but(std::string_view text, std::string_view left) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Special special = special_at(text, at);
    if (special.bytes == 0 || left.find(text[at]) != std::string_view::npos) {
      result += text[at++];
      continue;
    }
    append_escaped(result, special);
    at += special.bytes;
  }
  return result;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

} // namespace

std::string without_passwords(std::string_view text) {
  constexpr std::string_view BEGIN = "://";
  std::string result;
  for (;;) {
    const size_t begin = text.find(BEGIN);
    if (begin == std::string_view::npos)
      break;
    const size_t authority = begin + BEGIN.size();
    const size_t end = std::min(text.find_first_of("/?#\" \t\r\n", authority), text.size());
    const std::string_view named = text.substr(authority, end - authority);
    const size_t colon = named.find(':');
    const size_t at = named.rfind('@');
    result += text.substr(0, authority);
    if (at != std::string_view::npos && colon < at) {
      result += named.substr(0, colon + 1);
      result += HIDDEN;
      result += named.substr(at);
    } else {
      result += named;
    }
    text.remove_prefix(end);
  }
  result += text;
  return result;
}

std::string escaped(std::string_view text) {
  return escaped_but(text, "");
}

std::string loggable(std::string_view message, const char *client_word) {
  std::string text(message);
  const std::string_view word = client_word == nullptr ? "" : client_word;
  const std::string harmless = escaped(word);
  if (harmless != word)
    for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += harmless.size())
      text.replace(at, word.size(), harmless);
  return escaped_but(without_passwords(text), "\n\t"); // plugins' messages may contain these
}

std::string loggable_value(std::string_view key, std::string_view value) {
  std::string name(key);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  for (const char *secret : {"password", "passwd", "passphrase", "secret", "token", "cookie"})
    if (contains(name, secret))
      return std::string(HIDDEN);
  if (contains(name, "-script")) // a command that may contain secrets, as header-script=
    return std::string(HIDDEN);
  if (contains(name, "header")) // of HTTP: the header's name may be shown
    return std::string(value.substr(0, value.find(':'))) + ": " + std::string(HIDDEN);
  return std::string(value);
}

} // namespace asyncnbd::host
