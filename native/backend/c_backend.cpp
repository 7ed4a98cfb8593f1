// The requests of c_backend.hpp: which callback serves each, and what stands in for one that is
// missing. Rules and defaults are those of nbdkit-plugin(3).
#include "backend/c_backend.hpp"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <memory>
#include <sys/mman.h>

#include "host/log.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::backend {

namespace {

constexpr uint32_t CACHE_PIECE_BYTES = 1 << 20;

// Zeroes to write where a plugin cannot zero: never written to, so it costs address space only.
const uint8_t *zeroes() {
  static const void *area = mmap(nullptr, wire::MAX_PAYLOAD_BYTES, PROT_READ,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return area == MAP_FAILED ? nullptr : static_cast<const uint8_t *>(area);
}

} // namespace

// What a callback's failure means to the client.
int CBackend::outcome(int result) const {
  if (result != -1)
    return 0;
  int failure = errno;
  if (int error = host::current_error())
    return error;
  return plugin_.table().errno_is_preserved != 0 && failure != 0 ? failure : EIO;
}

uint32_t CBackend::native_fua(bool fua) const {
  return fua && capabilities_.fua == Support::native ? NBDKIT_FLAG_FUA : 0;
}

// Makes a write durable that the plugin could not make durable by itself.
int CBackend::flush_if(int error, bool fua) {
  return error == 0 && fua && capabilities_.fua == Support::emulate ? flush() : error;
}

int CBackend::read(uint8_t *data, uint32_t length_bytes, uint64_t offset) {
  const struct nbdkit_plugin &table = plugin_.table();
  if (host::log_is_verbose())
    host::log_debug("%s: pread count=%" PRIu32 " offset=%" PRIu64, plugin_.name().c_str(),
                    length_bytes, offset);
  return outcome(table.pread != nullptr ? table.pread(handle_, data, length_bytes, offset, 0)
                                        : table._pread_v1(handle_, data, length_bytes, offset));
}

int CBackend::write_one(const uint8_t *data, uint32_t length_bytes, uint64_t offset,
                        uint32_t flags) {
  const struct nbdkit_plugin &table = plugin_.table();
  if (host::log_is_verbose())
    host::log_debug("%s: pwrite count=%" PRIu32 " offset=%" PRIu64 " fua=%d",
                    plugin_.name().c_str(), length_bytes, offset, (flags & NBDKIT_FLAG_FUA) != 0);
  if (table.pwrite != nullptr)
    return outcome(table.pwrite(handle_, data, length_bytes, offset, flags));
  if (table._pwrite_v1 != nullptr)
    return outcome(table._pwrite_v1(handle_, data, length_bytes, offset));
  return EROFS; // can_write said yes all the same
}

int CBackend::write(const uint8_t *data, uint32_t length_bytes, uint64_t offset, bool fua) {
  return flush_if(write_one(data, length_bytes, offset, native_fua(fua)), fua);
}

int CBackend::flush() {
  const struct nbdkit_plugin &table = plugin_.table();
  if (host::log_is_verbose())
    host::log_debug("%s: flush", plugin_.name().c_str());
  if (table.flush != nullptr)
    return outcome(table.flush(handle_, 0));
  if (table._flush_v1 != nullptr)
    return outcome(table._flush_v1(handle_));
  return EINVAL;
}

int CBackend::trim(uint32_t length_bytes, uint64_t offset, bool fua) {
  const struct nbdkit_plugin &table = plugin_.table();
  if (host::log_is_verbose())
    host::log_debug("%s: trim count=%" PRIu32 " offset=%" PRIu64 " fua=%d", plugin_.name().c_str(),
                    length_bytes, offset, fua);
  int error = EINVAL;
  if (table.trim != nullptr)
    error = outcome(table.trim(handle_, length_bytes, offset, native_fua(fua)));
  else if (table._trim_v1 != nullptr)
    error = outcome(table._trim_v1(handle_, length_bytes, offset));
  return flush_if(error, fua);
}

int CBackend::zero_natively(const Request &request) {
  const struct nbdkit_plugin &table = plugin_.table();
  const bool may_trim = (request.flags & wire::NBD_CMD_FLAG_NO_HOLE) == 0;
  const bool fast = (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
  if (host::log_is_verbose())
    host::log_debug("%s: zero count=%" PRIu32 " offset=%" PRIu64 " may_trim=%d fua=%d fast=%d",
                    plugin_.name().c_str(), request.length_bytes, request.offset, may_trim,
                    (request.flags & wire::NBD_CMD_FLAG_FUA) != 0, fast);
  errno = 0; // so that a stale ENOTSUP is not taken for the plugin's
  if (table.zero != nullptr) {
    uint32_t flags = native_fua(request.flags & wire::NBD_CMD_FLAG_FUA);
    flags |= may_trim ? NBDKIT_FLAG_MAY_TRIM : 0;
    flags |= fast ? NBDKIT_FLAG_FAST_ZERO : 0;
    return outcome(table.zero(handle_, request.length_bytes, request.offset, flags));
  }
  if (table._zero_v1 != nullptr && !fast)
    return outcome(table._zero_v1(handle_, request.length_bytes, request.offset, may_trim));
  return ENOTSUP;
}

int CBackend::zero_by_writing(const Request &request) {
  const uint8_t *source = zeroes();
  if (source == nullptr)
    return ENOMEM;
  const uint32_t flags = native_fua(request.flags & wire::NBD_CMD_FLAG_FUA);
  uint64_t offset = request.offset;
  for (uint32_t left = request.length_bytes; left > 0;) {
    uint32_t piece = std::min(left, wire::MAX_PAYLOAD_BYTES);
    if (int error = write_one(source, piece, offset, flags))
      return error;
    offset += piece;
    left -= piece;
  }
  return 0;
}

int CBackend::zero(const Request &request) {
  int error = ENOTSUP;
  if (capabilities_.zero == Support::native)
    error = zero_natively(request);
  if (error == ENOTSUP && (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) == 0) {
    host::clear_current_error();
    error = zero_by_writing(request);
  }
  return flush_if(error, request.flags & wire::NBD_CMD_FLAG_FUA);
}

int CBackend::cache_by_reading(uint32_t length_bytes, uint64_t offset) {
  std::unique_ptr<uint8_t[]> scrap(new (std::nothrow)
                                       uint8_t[std::min(length_bytes, CACHE_PIECE_BYTES)]);
  if (!scrap)
    return ENOMEM;
  while (length_bytes > 0) {
    uint32_t piece = std::min(length_bytes, CACHE_PIECE_BYTES);
    if (int error = read(scrap.get(), piece, offset))
      return error;
    offset += piece;
    length_bytes -= piece;
  }
  return 0;
}

int CBackend::cache(uint32_t length_bytes, uint64_t offset) {
  const struct nbdkit_plugin &table = plugin_.table();
  if (host::log_is_verbose())
    host::log_debug("%s: cache count=%" PRIu32 " offset=%" PRIu64, plugin_.name().c_str(),
                    length_bytes, offset);
  if (capabilities_.cache == Support::emulate)
    return cache_by_reading(length_bytes, offset);
  // Without the callback the plugin has said that there is nothing to do.
  return table.cache != nullptr ? outcome(table.cache(handle_, length_bytes, offset, 0)) : 0;
}

int CBackend::perform(const Request &request) {
  const bool fua = (request.flags & wire::NBD_CMD_FLAG_FUA) != 0;
  errno = 0; // a callback that fails without one must not pass on what our own calls left
  switch (request.type) {
  case wire::NBD_CMD_READ:
    return read(request.data, request.length_bytes, request.offset);
  case wire::NBD_CMD_WRITE:
    return write(request.data, request.length_bytes, request.offset, fua);
  case wire::NBD_CMD_FLUSH:
    return flush();
  case wire::NBD_CMD_TRIM:
    return trim(request.length_bytes, request.offset, fua);
  case wire::NBD_CMD_WRITE_ZEROES:
    return zero(request);
  case wire::NBD_CMD_CACHE:
    return cache(request.length_bytes, request.offset);
  default:
    return EINVAL;
  }
}

void CBackend::submit(Request &request) {
  int error;
  {
    host::ContextScope scope(&context_);
    auto lock = plugin_.serialize_calls();
    error = perform(request);
  }
  // Outside the lock: the answer may wait for the client's socket.
  request.complete(error);
}

} // namespace asyncnbd::backend
