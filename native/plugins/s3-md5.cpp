// See s3-md5.hpp.
#include "s3-md5.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace s3 {

namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

constexpr size_t BLOCK_BYTES = 64;
constexpr size_t STEPS = 64;
using State = std::array<uint32_t, 4>;

/// The table T of RFC 1321, 3.4, made of the sines of 1 to 64.
const std::array<uint32_t, STEPS> &sines() {
  static const auto table = [] {
    std::array<uint32_t, STEPS> values{};
    for (size_t i = 0; i < STEPS; i++)
      values[i] = static_cast<uint32_t>(std::fabs(std::sin(static_cast<double>(i + 1))) * 0x1p32);
    return values;
  }();
  return table;
}

void add_block(State &state, const char *block) {
  static constexpr std::array<std::array<int, 4>, 4> ROTATIONS = {
      {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}};
  std::array<uint32_t, 16> words{};
  memcpy(words.data(), block, BLOCK_BYTES);
  auto [a, b, c, d] = state;
  for (size_t i = 0; i < STEPS; i++) {
    const size_t round = i / 16;
    const uint32_t mixed = round == 0   ? (b & c) | (~b & d)
                           : round == 1 ? (d & b) | (~d & c)
                           : round == 2 ? b ^ c ^ d
                                        : c ^ (b | ~d);
    const size_t word = round == 0   ? i
                        : round == 1 ? (5 * i + 1) % 16
                        : round == 2 ? (3 * i + 5) % 16
                                     : 7 * i % 16;
    const uint32_t sum = a + mixed + sines()[i] + words[word];
    a = d;
    d = c;
    c = b;
    b += std::rotl(sum, ROTATIONS[round][i % 4]);
  }
  state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d};
}

std::string base64(const unsigned char *bytes, size_t count) {
  static constexpr char DIGITS[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < count; i += 3) {
    const auto at = [&](size_t index) { return index < count ? bytes[index] : 0U; };
    const uint32_t group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    for (size_t digit = 0; digit < 4; digit++)
      text += i + digit > count ? '=' : DIGITS[(group >> (18 - 6 * digit)) & 63];
  }
  return text;
}

} // namespace

std::string content_md5(std::string_view text) {
  State state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  size_t done = 0;
  for (; text.size() - done >= BLOCK_BYTES; done += BLOCK_BYTES)
    add_block(state, text.data() + done);
  // The end: the rest of the text, a 1 bit, zeroes, and in the last 8 bytes the length in bits.
  std::string rest(text.substr(done));
  rest += '\x80';
  rest.resize(rest.size() <= BLOCK_BYTES - 8 ? BLOCK_BYTES : 2 * BLOCK_BYTES);
  const uint64_t bits = uint64_t{text.size()} * 8;
  memcpy(rest.data() + rest.size() - 8, &bits, 8);
  for (size_t at = 0; at < rest.size(); at += BLOCK_BYTES)
    add_block(state, rest.data() + at);
  return base64(reinterpret_cast<const unsigned char *>(state.data()), 16);
}

} // namespace s3
