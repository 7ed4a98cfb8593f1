// What a filter is configured with: values by name, as JavaScript has parsed them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>

namespace asyncnbd::filters {

using FilterOption = std::variant<bool, double, std::string>;
using FilterOptions = std::map<std::string, FilterOption>;

// Takes options one after the other; what is wrong with them, `error` says at the end.
class OptionReader {
public:
  OptionReader(const char *filter, const FilterOptions &options)
      : filter_(filter), left_(options) {}

  bool boolean(const char *name, bool missing);
  // A whole number between 0 and `most`.
  uint64_t number(const char *name, uint64_t missing, uint64_t most);
  // From `least` to `most`.
  double real(const char *name, double missing, double least, double most);
  // Given by its name.
  int error_number(const char *name, int missing);
  std::string text(const char *name, const char *missing = "");

  // Empty if all options were known and right.
  std::string error() const;

private:
  template <typename Value> bool take(const char *name, Value *value, const char *expected);
  void complain(const char *name, const char *expected);

  const char *const filter_;
  FilterOptions left_;
  std::string error_;
};

} // namespace asyncnbd::filters
