// The data callbacks of c_backend.hpp. Rules and defaults are those of nbdkit-plugin(3).
#include <cerrno>
#include <cinttypes>
#include <new>

#include "backend/c_backend.hpp"
#include "base/invariant.hpp"
#include "base/page_cache.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::backend {

namespace {

bool has_fua(const Request &request) {
  return (request.flags & wire::NBD_CMD_FLAG_FUA) != 0;
}

} // namespace

// The errno that a callback's failure means for the client.
int CBackend::outcome(int result) const {
  if (result != -1)
    return 0;
  int failure = errno;
  if (int error = host::current_error())
    return error;
  return plugin_.table().errno_is_preserved != 0 && failure > 0 ? failure : EIO;
}

// Starts `callback`, to which the plugin replies later, perhaps before this returns.
template <typename Callback> int CBackend::start(Operation &operation, Callback callback) {
  if (given_up_.load(std::memory_order_relaxed))
    return ESHUTDOWN;
  const uint64_t reqid = operation.begin(this);
  if (callback(static_cast<void *>(this), reqid) != -1)
    return PENDING;
  const int error = outcome(-1);
  return host::AsyncCall::fail(reqid) ? error : PENDING; // a reply before -1 counts
}

Reservation CBackend::reserve(Request &request) {
  const auto length_bytes = static_cast<uint32_t>(request.length_bytes);
  if (request.type == wire::NBD_CMD_READ)
    return {lend(request.offset, length_bytes)};
  const bool is_written_here = !plugin_.is_async() || !has_fua(request); // see write_pages
  return {place(request.offset, length_bytes),
          is_written_here && write_fd_.load(std::memory_order_relaxed) != -1};
}

uint8_t *CBackend::lend(uint64_t offset, uint32_t length_bytes) {
  const struct nbdkit_plugin &table = plugin_.table();
  if (table.lend == nullptr)
    return nullptr;
  if (host::log_shows_requests())
    host::log_debug("%s: lend count=%" PRIu32 " offset=%" PRIu64, plugin_.name().c_str(),
                    length_bytes, offset);
  // Only read: the request's type says so.
  return static_cast<uint8_t *>(const_cast<void *>(table.lend(handle_, length_bytes, offset)));
}

uint8_t *CBackend::place(uint64_t offset, uint32_t length_bytes) {
  const struct nbdkit_plugin &table = plugin_.table();
  if (table.place == nullptr)
    return nullptr;
  if (host::log_shows_requests())
    host::log_debug("%s: place count=%" PRIu32 " offset=%" PRIu64, plugin_.name().c_str(),
                    length_bytes, offset);
  return static_cast<uint8_t *>(table.place(handle_, length_bytes, offset));
}

void CBackend::unreserve(Request &request) {
  const auto length_bytes = static_cast<uint32_t>(request.length_bytes);
  if (host::log_shows_requests())
    host::log_debug("%s: unplace count=%" PRIu32 " offset=%" PRIu64, plugin_.name().c_str(),
                    length_bytes, request.offset);
  plugin_.table().unplace(handle_, length_bytes, request.offset);
}

int CBackend::read(Request &request, Operation *operation) {
  const struct nbdkit_plugin &table = plugin_.table();
  uint8_t *data = request.data;
  const auto length_bytes = static_cast<uint32_t>(request.length_bytes);
  const uint64_t offset = request.offset;
  if (host::log_shows_requests())
    host::log_debug("%s: pread count=%" PRIu32 " offset=%" PRIu64, plugin_.name().c_str(),
                    length_bytes, offset);
  if (operation != nullptr && table.async_pread != nullptr)
    return start(*operation, [&](void *conn, uint64_t reqid) {
      return table.async_pread(conn, reqid, false, handle_, data, length_bytes, offset);
    });
  if (table.pread != nullptr)
    return outcome(table.pread(handle_, data, length_bytes, offset, 0));
  return outcome(table._pread_v1(handle_, data, length_bytes, offset));
}

// Reads from the plugin's file without calling the plugin. `may_wait`: for the disk. False: the
// plugin must be called.
bool CBackend::pipe(Request &request, bool may_wait) {
  const int fd = read_fd_.load(std::memory_order_relaxed);
  if (!request.may_answer_in_pages || fd == -1)
    return false;
  if (!may_wait && !base::is_cached(fd, request.offset, request.length_bytes))
    return false;
  transport::PagePipe::Owner pages =
      plugin_.resources().page_pipes.take(transport::PagePipe::For::sending);
  if (!pages)
    return false;
  const int error = pages->put_file(fd, request.offset, request.length_bytes);
  if (host::log_shows_requests())
    host::log_debug("%s: splice count=%" PRIu64 " offset=%" PRIu64 ": %s", plugin_.name().c_str(),
                    request.length_bytes, request.offset, error == 0 ? "done" : "not possible");
  if (error == -EINVAL || error == -EPERM || error == -ENOSYS) // refused by the system
    read_fd_.store(-1, std::memory_order_relaxed);
  if (error != 0)
    return false;
  request.pages = std::move(pages);
  return true;
}

int CBackend::write(const Request &request, Operation *operation, const uint8_t *data,
                    uint32_t length_bytes, uint64_t offset) {
  const struct nbdkit_plugin &table = plugin_.table();
  const bool async = operation != nullptr && table.async_pwrite != nullptr;
  const bool fua = has_fua(request);
  if (host::log_shows_requests())
    host::log_debug("%s: pwrite count=%" PRIu32 " offset=%" PRIu64 " fua=%d",
                    plugin_.name().c_str(), length_bytes, offset, fua);
  if (async)
    return start(*operation, [&](void *conn, uint64_t reqid) {
      return table.async_pwrite(conn, reqid, fua, handle_, data, length_bytes, offset);
    });
  if (table.pwrite != nullptr)
    return outcome(table.pwrite(handle_, data, length_bytes, offset, fua ? NBDKIT_FLAG_FUA : 0));
  if (table._pwrite_v1 != nullptr)
    return outcome(table._pwrite_v1(handle_, data, length_bytes, offset));
  return EROFS; // although can_write said yes
}

// Writes to the plugin's file without calling the plugin. The plugin is called for what cannot be
// written this way, and gives the error if it cannot write it either. An asynchronous plugin is
// called for all that is to be durable: it does not wait for that here.
int CBackend::write_pages(Call &call, Operation *operation) {
  Request &request = *call.request;
  transport::PagePipe::Owner pages = std::move(request.pages); // free for others once empty
  const bool splices = operation == nullptr || !has_fua(request);
  const size_t written =
      splices ? pages->write_file(write_fd_.load(std::memory_order_relaxed), request.offset) : 0;
  if (host::log_shows_requests())
    host::log_debug("%s: splice count=%" PRIu64 " offset=%" PRIu64 ": %zu written",
                    plugin_.name().c_str(), request.length_bytes, request.offset, written);
  if (written < request.length_bytes) {
    const auto left = static_cast<uint32_t>(request.length_bytes - written);
    call.rest.reset(new (std::nothrow) uint8_t[left]);
    if (!call.rest)
      return ENOMEM;
    if (pages->take_out(call.rest.get()) != left)
      return EIO;
    pages.reset();
    errno = 0; // what splice has left there is not the plugin's
    const int error = write(request, operation, call.rest.get(), left, request.offset + written);
    if (error != 0) // PENDING: the call may be gone
      return error;
    if (splices && written == 0) // then this file does not support splice
      write_fd_.store(-1, std::memory_order_relaxed);
  }
  // The plugin's callback has not written all of it, so it has not made that durable.
  return has_fua(request) && operation == nullptr ? flush(nullptr) : 0;
}

int CBackend::flush(Operation *operation) {
  const struct nbdkit_plugin &table = plugin_.table();
  if (host::log_shows_requests())
    host::log_debug("%s: flush", plugin_.name().c_str());
  if (operation != nullptr && table.async_flush != nullptr)
    return start(*operation, [&](void *conn, uint64_t reqid) {
      return table.async_flush(conn, reqid, handle_);
    });
  if (table.flush != nullptr)
    return outcome(table.flush(handle_, 0));
  if (table._flush_v1 != nullptr)
    return outcome(table._flush_v1(handle_));
  return EINVAL;
}

int CBackend::trim(const Request &request, Operation *operation) {
  const struct nbdkit_plugin &table = plugin_.table();
  const auto count = static_cast<uint32_t>(request.length_bytes);
  const uint64_t offset = request.offset;
  const bool async = operation != nullptr && table.async_trim != nullptr;
  const bool fua = has_fua(request);
  if (host::log_shows_requests())
    host::log_debug("%s: trim count=%" PRIu32 " offset=%" PRIu64 " fua=%d", plugin_.name().c_str(),
                    count, offset, fua);
  if (async)
    return start(*operation, [&](void *conn, uint64_t reqid) {
      return table.async_trim(conn, reqid, fua, handle_, count, offset);
    });
  if (table.trim != nullptr)
    return outcome(table.trim(handle_, count, offset, fua ? NBDKIT_FLAG_FUA : 0));
  if (table._trim_v1 != nullptr)
    return outcome(table._trim_v1(handle_, count, offset));
  return EINVAL;
}

int CBackend::zero(const Request &request, Operation *operation) {
  const struct nbdkit_plugin &table = plugin_.table();
  const auto count = static_cast<uint32_t>(request.length_bytes);
  const uint64_t offset = request.offset;
  const bool may_trim = (request.flags & wire::NBD_CMD_FLAG_NO_HOLE) == 0;
  const bool fast = (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
  const uint32_t flags =
      (may_trim ? NBDKIT_FLAG_MAY_TRIM : 0u) | (fast ? NBDKIT_FLAG_FAST_ZERO : 0u);
  const bool async = operation != nullptr && table.async_zero != nullptr;
  const bool fua = has_fua(request);
  if (host::log_shows_requests())
    host::log_debug("%s: zero count=%" PRIu32 " offset=%" PRIu64 " may_trim=%d fua=%d fast=%d",
                    plugin_.name().c_str(), count, offset, may_trim, fua, fast);
  errno = 0; // a stale ENOTSUP must not count as the plugin's
  if (async)
    return start(*operation, [&](void *conn, uint64_t reqid) {
      return table.async_zero(conn, reqid, fua, handle_, count, offset, flags);
    });
  if (table.zero != nullptr)
    return outcome(table.zero(handle_, count, offset, flags | (fua ? NBDKIT_FLAG_FUA : 0)));
  if (table._zero_v1 != nullptr && !fast)
    return outcome(table._zero_v1(handle_, count, offset, may_trim));
  return ENOTSUP;
}

int CBackend::cache(const Request &request, Operation *operation) {
  const struct nbdkit_plugin &table = plugin_.table();
  const auto count = static_cast<uint32_t>(request.length_bytes);
  const uint64_t offset = request.offset;
  if (host::log_shows_requests())
    host::log_debug("%s: cache count=%" PRIu32 " offset=%" PRIu64, plugin_.name().c_str(), count,
                    offset);
  if (operation != nullptr && table.async_cache != nullptr)
    return start(*operation, [&](void *conn, uint64_t reqid) {
      return table.async_cache(conn, reqid, handle_, count, offset);
    });
  // Without the callback, can_cache has said that nothing needs to be done.
  return table.cache != nullptr ? outcome(table.cache(handle_, count, offset, 0)) : 0;
}

int CBackend::extents(Call &call, Operation *operation) {
  const struct nbdkit_plugin &table = plugin_.table();
  const Request &request = *call.request;
  const auto count = static_cast<uint32_t>(request.length_bytes);
  const bool only_one = (request.flags & wire::NBD_CMD_FLAG_REQ_ONE) != 0;
  const uint32_t flags = only_one ? NBDKIT_FLAG_REQ_ONE : 0;
  const uint64_t offset = request.offset;
  call.extents.reset(nbdkit_extents_new(offset, facts().size_bytes));
  nbdkit_extents *list = call.extents.get();
  if (list == nullptr)
    return EIO;
  base::invariant(request.extras->statuses.size() == 1, "one context at a time");
  const uint32_t context = request.extras->statuses.front().context;
  if (context != ContextStatus::ALLOCATION)
    return block_status(call, operation, context, flags);
  if (host::log_shows_requests())
    host::log_debug("%s: extents count=%" PRIu32 " offset=%" PRIu64 " req_one=%d",
                    plugin_.name().c_str(), count, offset, only_one);
  if (operation != nullptr && table.async_extents != nullptr)
    return start(*operation, [&](void *conn, uint64_t reqid) {
      return table.async_extents(conn, reqid, handle_, count, offset, flags, list);
    });
  if (table.extents == nullptr) // although can_extents said yes
    return nbdkit_add_extent(list, offset, count, 0) == 0 ? 0 : EIO;
  return outcome(table.extents(handle_, count, offset, flags, list));
}

// For a context of the plugin's own, which only an asynchronous plugin has.
int CBackend::block_status(Call &call, Operation *operation, uint32_t context, uint32_t flags) {
  const struct nbdkit_plugin &table = plugin_.table();
  const auto count = static_cast<uint32_t>(call.request->length_bytes);
  const uint64_t offset = call.request->offset;
  if (host::log_shows_requests())
    host::log_debug("%s: block_status context=%" PRIu32 " count=%" PRIu32 " offset=%" PRIu64,
                    plugin_.name().c_str(), context - 1, count, offset);
  return start(*operation, [&](void *conn, uint64_t reqid) {
    return table.async_block_status(conn, reqid, handle_, context - 1, count, offset, flags,
                                    call.extents.get());
  });
}

} // namespace asyncnbd::backend
