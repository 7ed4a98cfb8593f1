// See extent_file.hpp. nbdkit-extentlist-filter(1) describes the lines.
#include "filters/extent_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <sstream>

#include "backend/sparse.hpp"
#include "base/error_numbers.hpp"
#include "host/abi.hpp"

namespace asyncnbd::filters {

namespace {

// Only spaces and tabs separate words.
std::vector<std::string> words_of(const std::string &line) {
  std::vector<std::string> words;
  constexpr const char *BLANKS = " \t";
  for (size_t begin = line.find_first_not_of(BLANKS); begin != std::string::npos;) {
    const size_t end = std::min(line.find_first_of(BLANKS, begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    begin = line.find_first_not_of(BLANKS, end);
  }
  return words;
}

// A number, or words such as "hole,zero".
uint64_t flags_of(const std::string &type) {
  unsigned number = 0;
  if (std::sscanf(type.c_str(), "%u", &number) == 1) // NOLINT(cert-err34-c): as nbdkit reads it
    return number & (NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
  return (type.find("hole") != std::string::npos ? unsigned{NBDKIT_EXTENT_HOLE} : 0) |
         (type.find("zero") != std::string::npos ? unsigned{NBDKIT_EXTENT_ZERO} : 0);
}

// nbdkit_parse_size logs what is wrong with a size.
bool read_line(const std::string &line, std::vector<ListedExtent> *extents) {
  const std::vector<std::string> words = words_of(line);
  if (words.size() < 2)
    return false;
  const int64_t offset = nbdkit_parse_size(words[0].c_str());
  const int64_t length_bytes = nbdkit_parse_size(words[1].c_str());
  if (offset < 0 || length_bytes < 0)
    return false;
  if (length_bytes > 0)
    extents->push_back({static_cast<uint64_t>(offset), static_cast<uint64_t>(length_bytes),
                        words.size() > 2 ? flags_of(words[2]) : 0});
  return true;
}

bool read_all(const std::string &path, std::string *text) {
  const std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (!file)
    return false;
  char piece[4096];
  for (size_t bytes; (bytes = std::fread(piece, 1, sizeof piece, file.get())) > 0;)
    text->append(piece, bytes);
  return std::ferror(file.get()) == 0;
}

bool read_lines(const std::string &path, std::vector<ListedExtent> *extents, std::string *error) {
  std::string text;
  if (!read_all(path, &text)) {
    *error = "filter extentlist: cannot read " + path + ": " + base::error_text(errno);
    return false;
  }
  std::istringstream lines(text);
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    number++;
    if (read_line(line, extents))
      continue;
    *error = "filter extentlist: " + path + ", line " + std::to_string(number) + ": \"";
    *error += line;
    *error += "\": expected an offset, a length and perhaps a type, as in \"1M 64K hole,zero\"";
    return false;
  }
  return true;
}

} // namespace

std::optional<std::vector<ListedExtent>> read_extent_file(const std::string &path,
                                                          std::string *error) {
  std::vector<ListedExtent> listed;
  if (!read_lines(path, &listed, error))
    return std::nullopt;
  std::sort(listed.begin(), listed.end(), [](const ListedExtent &one, const ListedExtent &other) {
    return one.offset < other.offset;
  });
  std::vector<ListedExtent> all;
  uint64_t end = 0;
  const auto add_hole_up_to = [&all, &end](uint64_t offset) {
    if (end < offset)
      all.push_back({end, offset - end, backend::HOLE_AND_ZERO});
  };
  for (const ListedExtent &extent : listed) {
    if (extent.offset < end) {
      *error = "filter extentlist: " + path + ": the extent at " + std::to_string(extent.offset) +
               " overlaps with the one before it, which ends at " + std::to_string(end);
      return std::nullopt;
    }
    add_hole_up_to(extent.offset);
    all.push_back(extent);
    end = extent.offset + extent.length_bytes; // neither is more than INT64_MAX
  }
  add_hole_up_to(UINT64_MAX);
  return all;
}

} // namespace asyncnbd::filters
