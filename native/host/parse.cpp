// nbdkit_parse_*: numbers, sizes and booleans from the text of parameters.
#include <cerrno>
#include <cinttypes>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <strings.h>
#include <type_traits>

#include "host/abi.hpp"

namespace {

// strtoull accepts "-1", which parameters that cannot be negative must not.
bool begins_with_minus(const char *text) {
  while (*text == ' ' || (*text >= '\t' && *text <= '\r'))
    text++;
  return *text == '-';
}

template <typename T> int parse_number(const char *what, const char *text, T *result) {
  char *end;
  bool out_of_range;
  T value;

  errno = 0;
  if constexpr (std::is_signed_v<T>) {
    intmax_t wide = strtoimax(text, &end, 0);
    out_of_range = errno == ERANGE || wide < std::numeric_limits<T>::min() ||
                   wide > std::numeric_limits<T>::max();
    value = static_cast<T>(wide);
  } else {
    if (begins_with_minus(text)) {
      nbdkit_error("%s: \"%s\": negative numbers are not allowed", what, text);
      return -1;
    }
    uintmax_t wide = strtoumax(text, &end, 0);
    out_of_range = errno == ERANGE || wide > std::numeric_limits<T>::max();
    value = static_cast<T>(wide);
  }

  if (end == text || *end != '\0') {
    nbdkit_error("%s: could not parse number: \"%s\"%s", what, text,
                 end == text ? "" : ": trailing garbage");
    return -1;
  }
  if (out_of_range) {
    errno = ERANGE;
    nbdkit_error("%s: could not parse number: \"%s\": %m", what, text);
    return -1;
  }
  if (result != nullptr)
    *result = value;
  return 0;
}

// The factor of a size's suffix, 0 if there is no such suffix.
int64_t size_factor(char suffix) {
  switch (suffix | 0x20) { // ASCII lower case
  case 'b':
    return 1;
  case 's':
    return 512;
  case 'k':
    return INT64_C(1) << 10;
  case 'm':
    return INT64_C(1) << 20;
  case 'g':
    return INT64_C(1) << 30;
  case 't':
    return INT64_C(1) << 40;
  case 'p':
    return INT64_C(1) << 50;
  case 'e':
    return INT64_C(1) << 60;
  default:
    return 0;
  }
}

bool is_one_of(const char *text, std::initializer_list<const char *> words) {
  for (const char *word : words)
    if (strcasecmp(text, word) == 0)
      return true;
  return false;
}

} // namespace

extern "C" {

// A type's name cannot stand in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define DEFINE_PARSE(function, type)                                                               \
  NBDKIT_DLL_PUBLIC int function(const char *what, const char *str, type *r) {                     \
    return parse_number<type>(what, str, r);                                                       \
  }
// NOLINTEND(bugprone-macro-parentheses)

DEFINE_PARSE(nbdkit_parse_int, int)
DEFINE_PARSE(nbdkit_parse_unsigned, unsigned)
DEFINE_PARSE(nbdkit_parse_int8_t, int8_t)
DEFINE_PARSE(nbdkit_parse_uint8_t, uint8_t)
DEFINE_PARSE(nbdkit_parse_int16_t, int16_t)
DEFINE_PARSE(nbdkit_parse_uint16_t, uint16_t)
DEFINE_PARSE(nbdkit_parse_int32_t, int32_t)
DEFINE_PARSE(nbdkit_parse_uint32_t, uint32_t)
DEFINE_PARSE(nbdkit_parse_int64_t, int64_t)
DEFINE_PARSE(nbdkit_parse_uint64_t, uint64_t)

NBDKIT_DLL_PUBLIC int64_t nbdkit_parse_size(const char *str) {
  char *end;
  errno = 0;
  int64_t number = strtoimax(str, &end, 10);
  if (end == str) {
    nbdkit_error("could not parse size \"%s\": use bytes, or a number and one of k m g t p e", str);
    return -1;
  }
  if (number < 0) {
    nbdkit_error("size \"%s\" cannot be negative", str);
    return -1;
  }
  if (errno != 0) {
    nbdkit_error("size \"%s\" exceeds the maximum value", str);
    return -1;
  }
  if (*end == '\0')
    return number;

  int64_t factor = size_factor(*end);
  if (factor == 0 || end[1] != '\0') {
    nbdkit_error("could not parse size \"%s\": unknown suffix \"%s\", use one of b s k m g t p e",
                 str, end);
    return -1;
  }
  int64_t bytes;
  if (__builtin_mul_overflow(number, factor, &bytes)) {
    nbdkit_error("size \"%s\" exceeds the maximum value", str);
    return -1;
  }
  return bytes;
}

NBDKIT_DLL_PUBLIC int nbdkit_parse_bool(const char *str) {
  if (is_one_of(str, {"1", "true", "t", "yes", "y", "on"}))
    return 1;
  if (is_one_of(str, {"0", "false", "f", "no", "n", "off"}))
    return 0;
  nbdkit_error("could not parse \"%s\" as a boolean: use true or false", str);
  return -1;
}

} // extern "C"
