// See log_words.hpp.
#include "filters/log_words.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>

#include "filters/shell.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

using backend::ContextStatus;
using backend::Extent;
using backend::Request;

namespace {

__attribute__((format(printf, 1, 2))) std::string formatted(const char *format, ...) {
  std::array<char, 256> text{}; // numbers only: the longest line in this file has 14
  va_list arguments;
  va_start(arguments, format);
  // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is just above
  vsnprintf(text.data(), text.size(), format, arguments);
  va_end(arguments);
  return text.data();
}

int has(const Request &request, uint16_t flag) {
  return (request.flags & flag) != 0 ? 1 : 0;
}

// The errors of NBD.
const char *error_word(int error) {
  switch (error) {
  case EROFS:
  case EPERM:
    return "EPERM";
  case EIO:
    return "EIO";
  case ENOMEM:
    return "ENOMEM";
  case EDQUOT:
  case EFBIG:
  case ENOSPC:
    return "ENOSPC";
  case ESHUTDOWN:
    return "ESHUTDOWN";
  case ENOTSUP:
    return "ENOTSUP";
  case EOVERFLOW:
    return "EOVERFLOW";
  default:
    return "EINVAL";
  }
}

// The extents of base:allocation, or of the first context if that is not asked about.
std::string extents_of(const Request &request) {
  const std::vector<ContextStatus> &statuses = request.extras->statuses;
  auto found = std::find_if(statuses.begin(), statuses.end(), [](const ContextStatus &status) {
    return status.context == ContextStatus::ALLOCATION;
  });
  std::string text = "extents=(";
  uint64_t at = request.offset;
  for (const Extent &extent : (found != statuses.end() ? *found : statuses.front()).extents) {
    static constexpr const char *TYPES[] = {"", "hole", "zero", "hole,zero"};
    text += formatted("%s0x%" PRIx64 " 0x%" PRIx64 " \"%s\"", at == request.offset ? "" : " ", at,
                      extent.length_bytes, TYPES[extent.flags & 3]);
    at += extent.length_bytes;
  }
  return text + ") ";
}

} // namespace

const char *log_action(uint16_t type) {
  switch (type) {
  case wire::NBD_CMD_READ:
    return "Read";
  case wire::NBD_CMD_WRITE:
    return "Write";
  case wire::NBD_CMD_FLUSH:
    return "Flush";
  case wire::NBD_CMD_TRIM:
    return "Trim";
  case wire::NBD_CMD_WRITE_ZEROES:
    return "Zero";
  case wire::NBD_CMD_BLOCK_STATUS:
    return "Extents";
  default:
    return "Cache";
  }
}

std::string log_arguments(const Request &request) {
  if (request.type == wire::NBD_CMD_FLUSH)
    return {};
  std::string text =
      formatted("offset=0x%" PRIx64 " count=0x%" PRIx64, request.offset, request.length_bytes);
  const int fua = has(request, wire::NBD_CMD_FLAG_FUA);
  switch (request.type) {
  case wire::NBD_CMD_WRITE:
  case wire::NBD_CMD_TRIM:
    return text + formatted(" fua=%d", fua);
  case wire::NBD_CMD_WRITE_ZEROES:
    return text + formatted(" trim=%d fua=%d fast=%d", 1 - has(request, wire::NBD_CMD_FLAG_NO_HOLE),
                            fua, has(request, wire::NBD_CMD_FLAG_FAST_ZERO));
  case wire::NBD_CMD_BLOCK_STATUS:
    return text + formatted(" req_one=%d", has(request, wire::NBD_CMD_FLAG_REQ_ONE));
  default:
    return text;
  }
}

std::string log_result(int error) {
  return error == 0 ? "return=0" : std::string("return=-1 error=") + error_word(error);
}

std::string log_result(const Request &request, int error) {
  const bool has_extents = error == 0 && request.type == wire::NBD_CMD_BLOCK_STATUS;
  return (has_extents ? extents_of(request) : std::string()) + log_result(error);
}

std::string log_exports(const std::vector<backend::ExportEntry> &exports) {
  std::string text = "exports=(";
  for (const backend::ExportEntry &entry : exports)
    text.append(&entry == exports.data() ? "" : " ").append(shell_quoted(entry.name));
  return text + ") return=0";
}

std::string log_facts(const std::string &export_name, bool is_tls, const backend::Facts &facts) {
  const backend::BlockSizes sizes = facts.block_sizes.value_or(backend::BlockSizes{});
  return "export=" + shell_quoted(export_name) +
         formatted(" tls=%d size=0x%" PRIx64 " minsize=0x%" PRIx32 " prefsize=0x%" PRIx32
                   " maxsize=0x%" PRIx32,
                   is_tls, facts.size_bytes, sizes.minimum, sizes.preferred, sizes.maximum) +
         formatted(" write=%d flush=%d rotational=%d trim=%d zero=%d fua=%d extents=%d cache=%d "
                   "fast_zero=%d",
                   facts.can_write, facts.can_flush, facts.is_rotational, facts.can_trim,
                   static_cast<int>(facts.zero), static_cast<int>(facts.fua), facts.can_extents,
                   static_cast<int>(facts.cache), facts.can_fast_zero);
}

} // namespace asyncnbd::filters
