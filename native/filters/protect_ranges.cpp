// See protect_ranges.hpp.
#include "filters/protect_ranges.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

namespace asyncnbd::filters {

namespace {

constexpr uint64_t END = uint64_t{1} << 63; // the end of every export

// Reads numbers as nbdkit does: also hexadecimal and octal. "": missing.
bool parse_offset(const std::string &text, uint64_t missing, uint64_t *offset) {
  *offset = missing;
  if (text.empty())
    return true;
  char *end = nullptr;
  errno = 0;
  *offset = std::strtoull(text.c_str(), &end, 0);
  return errno == 0 && *end == '\0' && text.find('-') == std::string::npos;
}

// False: not a range.
bool parse_word(const std::string &word, std::vector<ProtectedRange> &ranges) {
  const bool is_inverted = !word.empty() && word[0] == '~';
  const std::string text = word.substr(is_inverted ? 1 : 0);
  const size_t dash = text.find('-');
  uint64_t first = 0;
  uint64_t last = 0;
  if (dash == std::string::npos || !parse_offset(text.substr(0, dash), 0, &first) ||
      !parse_offset(text.substr(dash + 1), END - 1, &last) || last < first)
    return false;
  const uint64_t end = std::min(last, END - 1) + 1;
  if (!is_inverted) {
    ranges.push_back({first, end, word});
    return true;
  }
  if (first > 0)
    ranges.push_back({0, first, word});
  if (end < END)
    ranges.push_back({end, END, word});
  return true;
}

} // namespace

std::vector<ProtectedRange> protected_ranges(const std::vector<std::string> &words,
                                             std::string *error) {
  std::vector<ProtectedRange> given;
  for (const std::string &word : words)
    if (!parse_word(word, given))
      *error = "filter protect: protect=" + word +
               ": expected the first and the last byte of a range, as in 0-511, or ~0-511 for all "
               "but those";
  std::sort(given.begin(), given.end(), [](const ProtectedRange &one, const ProtectedRange &other) {
    return one.begin < other.begin;
  });
  std::vector<ProtectedRange> ranges;
  for (ProtectedRange &range : given) {
    if (!ranges.empty() && ranges.back().end >= range.begin)
      ranges.back().end = std::max(ranges.back().end, range.end);
    else
      ranges.push_back(std::move(range));
  }
  return ranges;
}

const ProtectedRange *next_protected(const std::vector<ProtectedRange> &ranges, uint64_t offset) {
  const auto found =
      std::upper_bound(ranges.begin(), ranges.end(), offset,
                       [](uint64_t at, const ProtectedRange &range) { return at < range.end; });
  return found == ranges.end() ? nullptr : &*found;
}

} // namespace asyncnbd::filters
