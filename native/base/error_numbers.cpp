// See error_numbers.hpp.
#include "base/error_numbers.hpp"

#include <array>
#include <cerrno>
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

int error_number(const std::string &name) {
  constexpr int MAX_ERROR = 4095; // the kernel's limit
  for (int error = 1; error <= MAX_ERROR; error++)
    if (const char *known = strerrorname_np(error); known != nullptr && name == known)
      return error;
  return name == "EOPNOTSUPP" ? EOPNOTSUPP : 0; // which has the number of ENOTSUP
}

} // namespace asyncnbd::base
