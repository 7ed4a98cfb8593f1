// The requests of filter_layer.hpp, and the emulation of what a filter says it cannot do.
#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <memory>
#include <new>

#include "backend/stand_in.hpp"
#include "cplugin/filter_layer.hpp"
#include "host/extents_list.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::cplugin {

namespace {

// The length of a callback's range has 32 bits; the parts of a longer one stay aligned.
constexpr uint64_t PART_BYTES = uint64_t{1} << 31;

// A range that takes more calls would keep a thread for too long; the specification allows us to
// refuse it.
constexpr uint64_t MAX_RANGE_BYTES = PART_BYTES << 16;

constexpr uint32_t CACHE_PIECE_BYTES = 1 << 20;

uint32_t nbdkit_flags(const backend::Request &request) {
  uint32_t flags = 0;
  if ((request.flags & wire::NBD_CMD_FLAG_FUA) != 0)
    flags |= NBDKIT_FLAG_FUA;
  if (request.type == wire::NBD_CMD_WRITE_ZEROES) {
    flags |= (request.flags & wire::NBD_CMD_FLAG_NO_HOLE) == 0 ? NBDKIT_FLAG_MAY_TRIM : 0;
    flags |= (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0 ? NBDKIT_FLAG_FAST_ZERO : 0;
  }
  return flags;
}

// A filter that fails should have set an errno of the system.
int with_error(int result, int *err) {
  if (result != -1)
    return 0;
  if (*err <= 0)
    *err = *err == 0 ? EIO : EINVAL;
  return -1;
}

} // namespace

void FilterLayer::submit(backend::Request &request, backend::Caller) {
  int error;
  {
    host::ContextScope scope(&context_);
    host::clear_current_error();
    uint64_t done_bytes = 0;
    error = perform(request, &done_bytes);
    if (error != 0) {
      std::string words = host::take_error_message();
      if (!words.empty())
        request.make_extras().error_text = std::move(words);
      if (done_bytes > 0)
        request.make_extras().error_offset = request.offset + done_bytes;
    }
  }
  request.complete(error);
}

int FilterLayer::perform(backend::Request &request, uint64_t *done_bytes) {
  int error = 0;
  const auto count = static_cast<uint32_t>(request.length_bytes);
  switch (request.type) {
  case wire::NBD_CMD_READ:
    return pread(request.data, count, request.offset, 0, &error) == -1 ? error : 0;
  case wire::NBD_CMD_WRITE:
    return pwrite(request.data, count, request.offset, nbdkit_flags(request), &error) == -1 ? error
                                                                                            : 0;
  case wire::NBD_CMD_FLUSH:
    return flush(0, &error) == -1 ? error : 0;
  case wire::NBD_CMD_BLOCK_STATUS:
    return perform_block_status(request);
  default:
    return perform_in_pieces(request, done_bytes);
  }
}

uint64_t FilterLayer::most_bytes_of(const backend::Request &request) {
  const bool zeroes =
      request.type == wire::NBD_CMD_WRITE_ZEROES && facts().zero != backend::Support::native;
  const bool caches =
      request.type == wire::NBD_CMD_CACHE && facts().cache != backend::Support::native;
  return zeroes || caches ? backend::MAX_STAND_IN_BYTES : MAX_RANGE_BYTES;
}

int FilterLayer::perform_in_pieces(backend::Request &request, uint64_t *done_bytes) {
  if (request.length_bytes > most_bytes_of(request))
    return EINVAL;
  while (*done_bytes < request.length_bytes) {
    const uint64_t left = request.length_bytes - *done_bytes;
    const auto count = static_cast<uint32_t>(left <= UINT32_MAX ? left : PART_BYTES);
    const uint64_t offset = request.offset + *done_bytes;
    int error = 0;
    int result = -1;
    if (request.type == wire::NBD_CMD_TRIM)
      result = trim(count, offset, nbdkit_flags(request), &error);
    else if (request.type == wire::NBD_CMD_WRITE_ZEROES)
      result = zero(count, offset, nbdkit_flags(request), &error);
    else if (request.type == wire::NBD_CMD_CACHE)
      result = cache(count, offset, 0, &error);
    if (result == -1)
      return error != 0 ? error : EINVAL;
    *done_bytes += count;
    if (*done_bytes < request.length_bytes && request.completers.maker().client_has_gone())
      return ESHUTDOWN; // nobody waits for the rest
  }
  return 0;
}

// Filters know only one context, and clients are offered no other.
int FilterLayer::perform_block_status(backend::Request &request) {
  const auto count = static_cast<uint32_t>(std::min(request.length_bytes, PART_BYTES));
  const bool only_one = (request.flags & wire::NBD_CMD_FLAG_REQ_ONE) != 0;
  for (backend::ContextStatus &status : request.extras->statuses) {
    if (status.context != backend::ContextStatus::ALLOCATION)
      return EINVAL;
    const host::ExtentsPointer list(nbdkit_extents_new(request.offset, facts().size_bytes));
    if (list == nullptr)
      return EIO;
    int error = 0;
    if (extents(count, request.offset, only_one ? NBDKIT_FLAG_REQ_ONE : 0, list.get(), &error) ==
        -1)
      return error;
    if (list->list.empty()) {
      host::log_error("filter \"%s\": extents succeeded, but added no extents", name());
      return EINVAL;
    }
    for (const nbdkit_extents::Entry &entry : list->list)
      backend::append_extent(status.extents, entry.length, entry.type);
  }
  return 0;
}

// A filter that has opened nothing, or has closed it, cannot pass on a request.
int FilterLayer::missing_next(int *err) const {
  host::log_error("filter \"%s\": nothing is open behind it", name());
  *err = EIO;
  return -1;
}

int FilterLayer::pread(void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  if (host::log_shows_requests())
    host::log_debug("%s: pread count=%" PRIu32 " offset=%" PRIu64, name(), count, offset);
  *err = 0;
  Next *next = next_;
  if (table().pread != nullptr)
    return with_error(table().pread(next, handle_, data, count, offset, flags, err), err);
  return next != nullptr ? next->pread(data, count, offset, flags, err) : missing_next(err);
}

int FilterLayer::pwrite(const void *data, uint32_t count, uint64_t offset, uint32_t flags,
                        int *err) {
  if (host::log_shows_requests())
    host::log_debug("%s: pwrite count=%" PRIu32 " offset=%" PRIu64 " fua=%d", name(), count, offset,
                    (flags & NBDKIT_FLAG_FUA) != 0);
  *err = 0;
  Next *next = next_;
  if (table().pwrite != nullptr)
    return with_error(table().pwrite(next, handle_, data, count, offset, flags, err), err);
  return next != nullptr ? next->pwrite(data, count, offset, flags, err) : missing_next(err);
}

int FilterLayer::flush(uint32_t flags, int *err) {
  if (host::log_shows_requests())
    host::log_debug("%s: flush", name());
  *err = 0;
  Next *next = next_;
  if (table().flush != nullptr)
    return with_error(table().flush(next, handle_, flags, err), err);
  return next != nullptr ? next->flush(flags, err) : missing_next(err);
}

int FilterLayer::trim(uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  if (host::log_shows_requests())
    host::log_debug("%s: trim count=%" PRIu32 " offset=%" PRIu64 " fua=%d", name(), count, offset,
                    (flags & NBDKIT_FLAG_FUA) != 0);
  *err = 0;
  Next *next = next_;
  if (table().trim != nullptr)
    return with_error(table().trim(next, handle_, count, offset, flags, err), err);
  return next != nullptr ? next->trim(count, offset, flags, err) : missing_next(err);
}

int FilterLayer::zero(uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  if (host::log_shows_requests())
    host::log_debug("%s: zero count=%" PRIu32 " offset=%" PRIu64 " may_trim=%d fua=%d fast=%d",
                    name(), count, offset, (flags & NBDKIT_FLAG_MAY_TRIM) != 0,
                    (flags & NBDKIT_FLAG_FUA) != 0, (flags & NBDKIT_FLAG_FAST_ZERO) != 0);
  *err = 0;
  if (facts().zero != backend::Support::native)
    return zero_by_writing(count, offset, flags, err);
  Next *next = next_;
  if (table().zero != nullptr)
    return with_error(table().zero(next, handle_, count, offset, flags, err), err);
  return next != nullptr ? next->zero(count, offset, flags, err) : missing_next(err);
}

int FilterLayer::extents(uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents *extents,
                         int *err) {
  if (host::log_shows_requests())
    host::log_debug("%s: extents count=%" PRIu32 " offset=%" PRIu64 " req_one=%d", name(), count,
                    offset, (flags & NBDKIT_FLAG_REQ_ONE) != 0);
  *err = 0;
  if (!facts().can_extents) { // then everything counts as data
    const int result = nbdkit_add_extent(extents, offset, count, 0);
    *err = result == -1 ? errno : 0;
    return result;
  }
  Next *next = next_;
  if (table().extents != nullptr)
    return with_error(table().extents(next, handle_, count, offset, flags, extents, err), err);
  return next != nullptr ? next->extents(count, offset, flags, extents, err) : missing_next(err);
}

int FilterLayer::cache(uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  if (host::log_shows_requests())
    host::log_debug("%s: cache count=%" PRIu32 " offset=%" PRIu64, name(), count, offset);
  *err = 0;
  if (facts().cache == backend::Support::emulate)
    return cache_by_reading(count, offset, err);
  Next *next = next_;
  if (table().cache != nullptr)
    return with_error(table().cache(next, handle_, count, offset, flags, err), err);
  return next != nullptr ? next->cache(count, offset, flags, err) : missing_next(err);
}

// ---- emulation, as in nbdkit -------------------------------------------------------------------

// If the filter emulates FUA by a flush, only the last piece needs it.
int FilterLayer::zero_by_writing(uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  const uint8_t *source = backend::zeroes();
  if ((flags & NBDKIT_FLAG_FAST_ZERO) != 0 || source == nullptr) {
    *err = source == nullptr ? ENOMEM : ENOTSUP;
    return -1;
  }
  const bool fua = (flags & NBDKIT_FLAG_FUA) != 0;
  const bool flushes = fua && facts().fua == backend::Support::emulate;
  while (count > 0) {
    const uint32_t piece = std::min(count, wire::MAX_PAYLOAD_BYTES);
    const bool is_durable = fua && (!flushes || piece == count);
    if (pwrite(source, piece, offset, is_durable ? NBDKIT_FLAG_FUA : 0, err) == -1)
      return -1;
    offset += piece;
    count -= piece;
  }
  return 0;
}

int FilterLayer::cache_by_reading(uint32_t count, uint64_t offset, int *err) {
  const std::unique_ptr<uint8_t[]> dropped(new (std::nothrow)
                                               uint8_t[std::min(count, CACHE_PIECE_BYTES)]);
  if (dropped == nullptr) {
    *err = ENOMEM;
    return -1;
  }
  while (count > 0) {
    const uint32_t piece = std::min(count, CACHE_PIECE_BYTES);
    if (pread(dropped.get(), piece, offset, 0, err) == -1)
      return -1;
    offset += piece;
    count -= piece;
  }
  return 0;
}

} // namespace asyncnbd::cplugin
