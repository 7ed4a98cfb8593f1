// nbdkit_parse_probability and nbdkit_parse_delay: parameters that are real numbers. The decimal
// separator is a point, whatever the locale.
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>

#include "host/abi.hpp"

namespace {

// Takes a finite number, not negative, from the front of the text.
bool take_number(std::string_view *text, double *number) {
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), *number);
  if (error != std::errc() || !std::isfinite(*number) || std::signbit(*number))
    return false;
  text->remove_prefix(static_cast<size_t>(end - text->data()));
  return true;
}

// How many of a unit of time make a second; 0 if there is no such unit.
double per_second(std::string_view unit) {
  if (unit.empty() || unit == "s")
    return 1;
  if (unit == "ms")
    return 1e3;
  if (unit == "us" || unit == "\u00b5s" || unit == "\u03bcs") // the micro sign, or a Greek mu
    return 1e6;
  return unit == "ns" ? 1e9 : 0;
}

// 0 of 0 is 0.
bool quotient(double part, double whole, double *result) {
  if (whole == 0 && part != 0)
    return false;
  *result = part == 0 ? 0 : part / whole;
  return std::isfinite(*result);
}

bool parse_probability(std::string_view text, double *result) {
  double part;
  if (!take_number(&text, &part))
    return false;
  if (text.empty() || text == "%") {
    *result = text.empty() ? part : part / 100;
    return true;
  }
  if (text.front() != ':' && text.front() != '/')
    return false;
  text.remove_prefix(1);
  double whole;
  return take_number(&text, &whole) && text.empty() && quotient(part, whole, result);
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC int nbdkit_parse_probability(const char *what, const char *str, double *ret) {
  double probability;
  if (!parse_probability(str, &probability)) {
    nbdkit_error("%s: \"%s\" is not a probability: use a number such as 0.1, 10%%, 1:10 or 1/10",
                 what, str);
    return -1;
  }
  if (ret != nullptr)
    *ret = probability;
  return 0;
}

NBDKIT_DLL_PUBLIC int nbdkit_parse_delay(const char *what, const char *str, unsigned *sec,
                                         unsigned *nsec) {
  constexpr double NANOSECONDS = 1e9;
  std::string_view text = str;
  double number = 0;
  const bool is_number = take_number(&text, &number);
  const double units = per_second(text);
  if (!is_number || units == 0) {
    nbdkit_error("%s: \"%s\" is not a time: use a number and s, ms, us or ns", what, str);
    return -1;
  }
  double seconds = std::floor(number / units);
  double nanoseconds = std::round((number - seconds * units) * (NANOSECONDS / units));
  if (nanoseconds >= NANOSECONDS) {
    nanoseconds -= NANOSECONDS;
    seconds++;
  }
  if (seconds > std::numeric_limits<unsigned>::max()) {
    nbdkit_error("%s: %s is too long", what, str);
    return -1;
  }
  if (sec != nullptr)
    *sec = static_cast<unsigned>(seconds);
  if (nsec != nullptr)
    *nsec = static_cast<unsigned>(nanoseconds);
  return 0;
}

} // extern "C"
