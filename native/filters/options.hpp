// A filter's configuration: values by name, as JavaScript has parsed them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace asyncnbd::filters {

class RequestCounters;

// A whole number that does not fit a double is an integer.
using FilterOption = std::variant<bool, double, uint64_t, std::string, std::vector<std::string>,
                                  std::shared_ptr<RequestCounters>>;
using FilterOptions = std::map<std::string, FilterOption>;

// Takes options one after the other; `error` has the first error at the end.
class OptionReader {
public:
  OptionReader(const char *filter, const FilterOptions &options)
      : filter_(filter), left_(options) {}

  bool boolean(const char *name, bool missing);
  // A whole number between 0 and `most`.
  uint64_t number(const char *name, uint64_t missing, uint64_t most);
  // The same; std::nullopt if it is missing.
  std::optional<uint64_t> optional_number(const char *name, uint64_t most);
  // From `least` to `most`.
  double real(const char *name, double missing, double least, double most);
  // An errno, given by its name.
  int error_number(const char *name, int missing);
  std::string text(const char *name, const char *missing = "");
  // Empty if it is missing.
  std::vector<std::string> list(const char *name);
  // One of these words, as an enumeration in the same order; the first if it is missing.
  template <typename Enum>
  Enum choice(const char *name, std::initializer_list<const char *> words) {
    return static_cast<Enum>(index_of(name, words));
  }
  // nullptr if none are given.
  std::shared_ptr<RequestCounters> counters(const char *name);

  // Reports an option with an invalid value.
  void complain(const char *name, const char *expected);
  // Empty if all options were known and valid.
  std::string error() const;

private:
  size_t index_of(const char *name, std::initializer_list<const char *> words);
  template <typename Value> bool take(const char *name, Value *value, const char *expected);

  const char *const filter_;
  FilterOptions left_;
  std::string error_;
};

} // namespace asyncnbd::filters
