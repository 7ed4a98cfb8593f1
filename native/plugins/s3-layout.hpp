// The names of a volume's objects: KEY/, then the object's number in 16 hexadecimal digits.
#ifndef ASYNCNBD_S3_LAYOUT_HPP
#define ASYNCNBD_S3_LAYOUT_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace s3 {

struct Layout {
  std::string prefix; // "KEY/"
  uint64_t size_bytes;
  uint32_t object_bytes;

  uint64_t objects() const { return size_bytes / object_bytes; }

  std::string name(uint64_t object) const {
    static constexpr char DIGITS[] = "0123456789abcdef";
    std::string name = prefix + std::string(16, '0');
    for (size_t at = name.size(); object != 0; object >>= 4)
      name[--at] = DIGITS[object & 15];
    return name;
  }

  /// The number in a name; no value if the name does not belong to the volume.
  std::optional<uint64_t> number(std::string_view name) const {
    if (name.size() != prefix.size() + 16 || !name.starts_with(prefix))
      return std::nullopt;
    uint64_t number = 0;
    for (const char c : name.substr(prefix.size())) {
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
      if (digit == -1)
        return std::nullopt;
      number = number << 4 | static_cast<unsigned>(digit);
    }
    return number;
  }
};

} // namespace s3

#endif
