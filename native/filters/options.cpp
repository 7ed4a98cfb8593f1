// See options.hpp.
#include "filters/options.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error_numbers.hpp"

namespace asyncnbd::filters {

template <typename Value>
bool OptionReader::take(const char *name, Value *value, const char *expected) {
  const auto given = left_.find(name);
  if (given == left_.end())
    return false;
  Value *fitting = std::get_if<Value>(&given->second);
  if (fitting != nullptr)
    *value = std::move(*fitting);
  else
    complain(name, expected);
  left_.erase(given);
  return fitting != nullptr;
}

bool OptionReader::boolean(const char *name, bool missing) {
  bool value = missing;
  take(name, &value, "true or false");
  return value;
}

uint64_t OptionReader::number(const char *name, uint64_t missing, uint64_t most) {
  const auto given = left_.find(name);
  if (given != left_.end() && std::holds_alternative<uint64_t>(given->second)) {
    const uint64_t whole = std::get<uint64_t>(given->second);
    left_.erase(given);
    if (whole <= most)
      return whole;
  } else {
    double value = 0;
    if (!take(name, &value, "a number"))
      return missing;
    if (value >= 0 && value <= static_cast<double>(most) && std::floor(value) == value)
      return static_cast<uint64_t>(value);
  }
  const std::string expected = "a whole number up to " + std::to_string(most);
  complain(name, expected.c_str());
  return missing;
}

std::optional<uint64_t> OptionReader::optional_number(const char *name, uint64_t most) {
  if (left_.find(name) == left_.end())
    return std::nullopt;
  return number(name, 0, most);
}

double OptionReader::real(const char *name, double missing, double least, double most) {
  double value = missing;
  if (!take(name, &value, "a number") || (value >= least && value <= most))
    return value;
  const std::string expected =
      "a number from " + std::to_string(least) + " to " + std::to_string(most);
  complain(name, expected.c_str());
  return missing;
}

int OptionReader::error_number(const char *name, int missing) {
  std::string value;
  if (!take(name, &value, "the name of an error"))
    return missing;
  const int number = base::error_number(value);
  if (number == 0)
    complain(name, "the name of an error, such as EIO");
  return number;
}

std::string OptionReader::text(const char *name, const char *missing) {
  std::string value = missing;
  take(name, &value, "a string");
  return value;
}

std::vector<std::string> OptionReader::list(const char *name) {
  std::vector<std::string> value;
  take(name, &value, "a list of strings");
  return value;
}

size_t OptionReader::index_of(const char *name, std::initializer_list<const char *> words) {
  const std::string value = text(name, *words.begin());
  const auto found = std::find(words.begin(), words.end(), value);
  if (found != words.end())
    return static_cast<size_t>(found - words.begin());
  std::string expected = "one of";
  for (const char *word : words)
    expected += std::string(" ") + word;
  complain(name, expected.c_str());
  return 0;
}

std::shared_ptr<RequestCounters> OptionReader::counters(const char *name) {
  std::shared_ptr<RequestCounters> value;
  take(name, &value, "counters");
  return value;
}

void OptionReader::complain(const char *name, const char *expected) {
  if (error_.empty())
    error_ = std::string("filter ") + filter_ + ": option " + name + ": expected " + expected;
}

std::string OptionReader::error() const {
  if (!error_.empty() || left_.empty())
    return error_;
  return std::string("filter ") + filter_ + ": it has no option " + left_.begin()->first;
}

} // namespace asyncnbd::filters
