// See error_numbers.hpp.
#include "base/error_numbers.hpp"

#include <array>
#include <cstring>

namespace asyncnbd::base {

std::string error_text(int error) {
  std::array<char, 128> buffer;
  return strerror_r(error, buffer.data(), buffer.size()); // GNU's, which may not need the buffer
}

std::string error_name(int error) {
  const char *name = strerrorname_np(error);
  return name != nullptr ? name : "error " + std::to_string(error);
}

} // namespace asyncnbd::base
