// See stats_text.hpp.
#include "filters/stats_text.hpp"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <utility>
#include <vector>

namespace asyncnbd::filters {

namespace {

// In the order of the output, which is not that of the numbers.
constexpr std::array<std::pair<uint16_t, const char *>, 7> KINDS{{
    {wire::NBD_CMD_READ, "read"},
    {wire::NBD_CMD_WRITE, "write"},
    {wire::NBD_CMD_TRIM, "trim"},
    {wire::NBD_CMD_WRITE_ZEROES, "zero"},
    {wire::NBD_CMD_BLOCK_STATUS, "extents"},
    {wire::NBD_CMD_CACHE, "cache"},
    {wire::NBD_CMD_FLUSH, "flush"},
}};

__attribute__((format(printf, 2, 3))) void append(std::string &text, const char *format, ...) {
  std::array<char, 256> line{};
  va_list arguments;
  va_start(arguments, format);
  // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is just above
  vsnprintf(line.data(), line.size(), format, arguments);
  va_end(arguments);
  text += line.data();
}

std::string size_text(uint64_t bytes) {
  constexpr double KIB = 1024;
  const auto number = static_cast<double>(bytes);
  std::string text;
  if (bytes < 1 << 10)
    append(text, "%" PRIu64 " bytes", bytes);
  else if (bytes < 1 << 20)
    append(text, "%.2f KiB", number / KIB);
  else if (bytes < 1 << 30)
    append(text, "%.2f MiB", number / KIB / KIB);
  else
    append(text, "%.2f GiB", number / KIB / KIB / KIB);
  return text;
}

std::string rate_text(uint64_t bytes, double seconds) {
  return seconds > 0 ? size_text(static_cast<uint64_t>(static_cast<double>(bytes) / seconds))
                     : "(n/a)";
}

double percentage(uint64_t part, uint64_t all) {
  return static_cast<double>(part) / static_cast<double>(all) * 100;
}

// How many offsets are multiples of which powers of two, as far as that distinguishes them.
void append_alignments(std::string &text, const SizeCounts &size, double share) {
  std::vector<std::pair<unsigned, uint64_t>> at_least; // larger alignments include smaller ones
  uint64_t requests = size.aligned[ALIGNMENTS - 1];
  for (unsigned bits = ALIGNMENTS - 1; bits-- > 0;) {
    requests += size.aligned[bits];
    if (size.aligned[bits] > 0)
      at_least.emplace_back(bits, requests);
  }
  std::reverse(at_least.begin(), at_least.end());
  const auto rare = static_cast<uint64_t>((1 - share) * static_cast<double>(size.requests));
  for (const auto &[bits, aligned] : at_least) {
    if (aligned < rare) {
      append(text, "         %2u+ bit-aligned: %4.1f%% (%" PRIu64 ")\n", bits,
             percentage(aligned, size.requests), aligned);
      return;
    }
    append(text, "         %2u bit aligned: %5.1f%% (%" PRIu64 ")\n", bits,
           percentage(aligned, size.requests), aligned);
  }
}

// The most frequent sizes first.
void append_sizes(std::string &text, const KindCounts &counts, double share) {
  std::vector<std::pair<unsigned, SizeCounts>> sizes(counts.sizes.begin(), counts.sizes.end());
  std::stable_sort(sizes.begin(), sizes.end(), [](const auto &one, const auto &other) {
    return one.second.requests > other.second.requests;
  });
  uint64_t left = 0;
  uint64_t left_bytes = 0;
  for (const auto &[bits, size] : sizes) {
    left += size.requests;
    left_bytes += size.bytes;
  }
  const uint64_t all = left;
  const auto to_tell = static_cast<uint64_t>(share * static_cast<double>(all));
  for (const auto &[bits, size] : sizes) {
    if (all - left >= to_tell) {
      append(text, "    other sizes: %4.1f%% (%" PRIu64 " reqs, %s total)\n", percentage(left, all),
             left, size_text(left_bytes).c_str());
      return;
    }
    append(text, "    %2u bits: %4.1f%% (%" PRIu64 " reqs, %s total)\n", bits,
           percentage(size.requests, all), size.requests, size_text(size.bytes).c_str());
    append_alignments(text, size, share);
    left -= size.requests;
    left_bytes -= size.bytes;
  }
}

void append_kind(std::string &text, const char *name, const KindCounts &counts, double seconds,
                 double share) {
  if (counts.done == 0)
    return;
  const uint64_t own_us = counts.done_ns / 1000; // whole numbers, as in nbdkit
  const double own_seconds = static_cast<double>(own_us) / 1e6;
  append(text, "%s: %" PRIu64 " ops, %.6f s, %s, %s/s op, %s/s total\n", name, counts.done,
         own_seconds, size_text(counts.bytes).c_str(), rate_text(counts.bytes, own_seconds).c_str(),
         rate_text(counts.bytes, seconds).c_str());
  if (share == 0 || counts.sizes.empty())
    return;
  text += "  Request size and alignment breakdown:\n";
  append_sizes(text, counts, share);
  text += "\n";
}

} // namespace

std::string stats_text(const RequestCounters &counters, std::chrono::microseconds time,
                       double share) {
  const double seconds = std::chrono::duration<double>(time).count();
  uint64_t requests = 0;
  uint64_t bytes = 0;
  std::string kinds;
  for (const auto &[type, name] : KINDS) {
    const KindCounts counts = counters.of(type);
    append_kind(kinds, name, counts, seconds, share);
    // As in nbdkit: cache requests do not count as requests, and block status does not count as
    // data.
    requests += type == wire::NBD_CMD_CACHE ? 0 : counts.done;
    if (type != wire::NBD_CMD_CACHE && type != wire::NBD_CMD_BLOCK_STATUS)
      bytes += counts.bytes;
  }
  std::string text;
  append(text, "total: %" PRIu64 " ops, %.6f s, %s, %s/s\n", requests, seconds,
         size_text(bytes).c_str(), rate_text(bytes, seconds).c_str());
  return text + kinds;
}

} // namespace asyncnbd::filters
