// See filter_next.hpp.
#include "cplugin/filter_next.hpp"

#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstring>
#include <utility>

#include "backend/timely_close.hpp"
#include "cplugin/filter_child.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::cplugin {

// What a filter asks for.
struct Next::Call {
  uint16_t type; // NBD_CMD_*
  uint32_t count;
  uint64_t offset;
  uint32_t flags; // NBDKIT_FLAG_*
  uint8_t *data = nullptr;
  nbdkit_extents *extents = nullptr;
};

namespace {

// nbdkit asserts these; here only the request fails.
bool is_allowed(uint16_t type, uint32_t flags, const backend::Facts &can) {
  switch (type) {
  case wire::NBD_CMD_WRITE:
    return can.can_write && (flags & ~NBDKIT_FLAG_FUA) == 0;
  case wire::NBD_CMD_FLUSH:
    return can.can_flush && flags == 0;
  case wire::NBD_CMD_TRIM:
    return can.can_write && can.can_trim && (flags & ~NBDKIT_FLAG_FUA) == 0;
  case wire::NBD_CMD_WRITE_ZEROES:
    return can.can_write && can.zero != backend::Support::none &&
           (flags & ~(NBDKIT_FLAG_FUA | NBDKIT_FLAG_MAY_TRIM | NBDKIT_FLAG_FAST_ZERO)) == 0 &&
           ((flags & NBDKIT_FLAG_FAST_ZERO) == 0 || can.can_fast_zero);
  case wire::NBD_CMD_BLOCK_STATUS:
    return (flags & ~NBDKIT_FLAG_REQ_ONE) == 0;
  case wire::NBD_CMD_CACHE:
    return can.cache != backend::Support::none && flags == 0;
  default:
    return flags == 0;
  }
}

uint16_t wire_flags(uint16_t type, uint32_t flags) {
  uint16_t result = 0;
  if ((flags & NBDKIT_FLAG_FUA) != 0)
    result |= wire::NBD_CMD_FLAG_FUA;
  if ((flags & NBDKIT_FLAG_REQ_ONE) != 0)
    result |= wire::NBD_CMD_FLAG_REQ_ONE;
  if ((flags & NBDKIT_FLAG_FAST_ZERO) != 0)
    result |= wire::NBD_CMD_FLAG_FAST_ZERO;
  if (type == wire::NBD_CMD_WRITE_ZEROES && (flags & NBDKIT_FLAG_MAY_TRIM) == 0)
    result |= wire::NBD_CMD_FLAG_NO_HOLE;
  return result;
}

int add_extents(const std::vector<backend::Extent> &found, uint64_t offset,
                nbdkit_extents *extents) {
  for (const backend::Extent &extent : found) {
    if (nbdkit_add_extent(extents, offset, extent.length_bytes,
                          static_cast<uint32_t>(extent.flags)) == -1)
      return errno;
    offset += extent.length_bytes;
  }
  return 0;
}

// ---- nbdkit's table

int ask_prepare(nbdkit_next *next) {
  std::string error;
  const bool is_prepared = Next::of(next).prepare(&error);
  if (!error.empty())
    host::log_error("%s", error.c_str());
  return is_prepared ? 0 : -1;
}
int ask_finalize(nbdkit_next *next) {
  return Next::of(next).finalize() ? 0 : -1;
}
int64_t ask_size(nbdkit_next *next) {
  return Next::of(next).size();
}
const char *ask_description(nbdkit_next *next) {
  return Next::of(next).description();
}
int ask_block_size(nbdkit_next *next, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum) {
  return Next::of(next).block_size(minimum, preferred, maximum);
}
template <Fact fact> int ask(nbdkit_next *next) {
  return Next::of(next).fact(fact);
}
// `err` may be nullptr for a caller that does not need the errno.
int do_pread(nbdkit_next *next, void *data, uint32_t count, uint64_t offset, uint32_t flags,
             int *err) {
  int ignored = 0;
  return Next::of(next).pread(data, count, offset, flags, err != nullptr ? err : &ignored);
}
int do_pwrite(nbdkit_next *next, const void *data, uint32_t count, uint64_t offset, uint32_t flags,
              int *err) {
  int ignored = 0;
  return Next::of(next).pwrite(data, count, offset, flags, err != nullptr ? err : &ignored);
}
int do_flush(nbdkit_next *next, uint32_t flags, int *err) {
  int ignored = 0;
  return Next::of(next).flush(flags, err != nullptr ? err : &ignored);
}
int do_trim(nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  int ignored = 0;
  return Next::of(next).trim(count, offset, flags, err != nullptr ? err : &ignored);
}
int do_zero(nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  int ignored = 0;
  return Next::of(next).zero(count, offset, flags, err != nullptr ? err : &ignored);
}
int do_extents(nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags,
               nbdkit_extents *extents, int *err) {
  int ignored = 0;
  return Next::of(next).extents(count, offset, flags, extents, err != nullptr ? err : &ignored);
}
int do_cache(nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  int ignored = 0;
  return Next::of(next).cache(count, offset, flags, err != nullptr ? err : &ignored);
}

constexpr nbdkit_next_ops OPERATIONS = {
    ask_prepare,
    ask_finalize,
    ask_size,
    ask_description,
    ask_block_size,
    ask<Fact::can_write>,
    ask<Fact::can_flush>,
    ask<Fact::is_rotational>,
    ask<Fact::can_trim>,
    ask<Fact::can_zero>,
    ask<Fact::can_fast_zero>,
    ask<Fact::can_extents>,
    ask<Fact::can_fua>,
    ask<Fact::can_multi_conn>,
    ask<Fact::can_cache>,
    do_pread,
    do_pwrite,
    do_flush,
    do_trim,
    do_zero,
    do_extents,
    do_cache,
};

} // namespace

Next::Next(std::unique_ptr<backend::Backend> opened, bool is_filter,
           std::shared_ptr<backend::Bottom> of_no_client)
    : nbdkit_next_ops(OPERATIONS), of_no_client_(std::move(of_no_client)),
      backend_(std::move(opened)),
      layer_(is_filter ? static_cast<FilterBackend *>(backend_.get()) : nullptr) {}

Next *Next::open(const backend::Level &level, const std::string &export_name, bool readonly,
                 std::shared_ptr<backend::Bottom> of_no_client, std::string *error) {
  std::unique_ptr<backend::Backend> opened = level.open(export_name, readonly, error);
  if (opened == nullptr)
    return nullptr;
  opened->keep(of_no_client);
  return new Next(std::move(opened), level.opens_behind(), std::move(of_no_client));
}

// If it belongs to a client, the connection limits the time that this takes.
void Next::close() {
  if (of_no_client_ != nullptr)
    backend::close_in_time(*backend_, of_no_client_->resources(), std::chrono::milliseconds{0});
  else
    backend_->close();
  delete this;
}

void Next::close_unused() {
  backend_->close_unused();
  delete this;
}

// A filter may ask anything at any time, even in a request.
bool Next::prepare(std::string *error) {
  return backend_->prepare(backend::WANTS_ALL, error);
}

bool Next::finalize() {
  return backend_->finalize();
}

// nbdkit asserts this.
bool Next::is_usable() const {
  const bool is_prepared = backend_->is_prepared();
  if (!is_prepared)
    host::log_error("a filter uses what is behind it without having prepared it");
  return is_prepared;
}

int64_t Next::size() {
  return is_usable() ? static_cast<int64_t>(backend_->facts().size_bytes) : -1;
}

const char *Next::description() {
  if (!is_usable() || backend_->facts().description.empty())
    return nullptr;
  host::CallContext *context = host::current_context();
  return (context != nullptr ? context->interns : host::process_interns())
      .add(backend_->facts().description);
}

int Next::block_size(uint32_t *minimum, uint32_t *preferred, uint32_t *maximum) {
  if (!is_usable())
    return -1;
  const std::optional<backend::BlockSizes> &sizes = backend_->facts().block_sizes;
  if (!sizes)
    return -1;
  *minimum = sizes->minimum;
  *preferred = sizes->preferred;
  *maximum = sizes->maximum;
  return 0;
}

int Next::fact(Fact fact) {
  return is_usable() ? fact_of(backend_->facts(), fact) : -1;
}

uint32_t Next::bytes_besides(const backend::Backend &behind, uint16_t type, uint64_t length_bytes) {
  const bool has_data = type == wire::NBD_CMD_READ || type == wire::NBD_CMD_WRITE;
  const bool is_copied = has_data && behind.facts().answers_later();
  const uint32_t copied_bytes = is_copied ? static_cast<uint32_t>(length_bytes) : 0;
  return copied_bytes + behind.bytes_besides(type, length_bytes);
}

// ---- requests

FilterBackend *Next::filter() const {
  return backend_->is_prepared() ? layer_ : nullptr;
}

// Returns 0 or an errno. Logs a mistake for which nbdkit would end the process.
int Next::check(const Call &call) const {
  if (!is_usable())
    return EIO;
  const backend::Facts &can = backend_->facts();
  const bool is_flush = call.type == wire::NBD_CMD_FLUSH;
  const bool is_inside =
      call.count > 0 && backend::is_inside(call.offset, call.count, can.size_bytes);
  if ((is_flush || is_inside) && is_allowed(call.type, call.flags, can))
    return 0;
  host::log_error("a filter asked for what there is not behind it: %s offset=%" PRIu64
                  " count=%" PRIu32 " flags=%" PRIu32 " of %" PRIu64 " bytes",
                  wire::command_name(call.type), call.offset, call.count, call.flags,
                  can.size_bytes);
  return EINVAL;
}

// Runs the request with the filter's memory, or with a copy of its data if `child` has memory.
int Next::run(const Call &call, Child &child) {
  backend::Request &request = child.request;
  const bool is_copied = request.data != nullptr;
  request.type = call.type;
  request.flags = wire_flags(call.type, call.flags);
  request.offset = call.offset;
  request.length_bytes = call.count;
  if (!is_copied)
    request.data = call.data;
  else if (call.type == wire::NBD_CMD_WRITE)
    memcpy(request.data, call.data, call.count);
  if (call.extents != nullptr)
    request.make_extras().statuses.push_back({0, backend::ContextStatus::ALLOCATION, {}});

  int error = child.run(*backend_);
  // The plugin may still write to a request that was given up, but not to one that was answered.
  if (error == 0 && is_copied && call.type == wire::NBD_CMD_READ)
    memcpy(call.data, request.data, call.count);
  if (error == 0 && call.extents != nullptr)
    error = add_extents(request.extras->statuses.front().extents, call.offset, call.extents);
  if (error != 0 && !child.is_given_up() && request.extras)
    host::keep_error_message(std::move(request.extras->error_text));
  return error;
}

int Next::run(const Call &call, int *err) {
  int error = check(call);
  if (error == 0 && !backend_->facts().answers_later()) {
    Child on_stack;
    error = run(call, on_stack);
  } else if (error == 0) {
    Child *child = Child::make(call.data != nullptr ? call.count : 0, backend_);
    error = child != nullptr ? run(call, *child) : ENOMEM;
    if (child != nullptr)
      child->let_go();
  }
  *err = error;
  return error == 0 ? 0 : -1;
}

int Next::pread(void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  if (FilterBackend *direct = filter())
    return direct->pread(data, count, offset, flags, err);
  return run({wire::NBD_CMD_READ, count, offset, flags, static_cast<uint8_t *>(data)}, err);
}

int Next::pwrite(const void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  if (FilterBackend *direct = filter())
    return direct->pwrite(data, count, offset, flags, err);
  // Only read: the request's type says so.
  auto *bytes = static_cast<uint8_t *>(const_cast<void *>(data));
  return run({wire::NBD_CMD_WRITE, count, offset, flags, bytes}, err);
}

int Next::flush(uint32_t flags, int *err) {
  FilterBackend *direct = filter();
  return direct != nullptr ? direct->flush(flags, err)
                           : run({wire::NBD_CMD_FLUSH, 0, 0, flags}, err);
}

int Next::trim(uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  FilterBackend *direct = filter();
  return direct != nullptr ? direct->trim(count, offset, flags, err)
                           : run({wire::NBD_CMD_TRIM, count, offset, flags}, err);
}

int Next::zero(uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  FilterBackend *direct = filter();
  return direct != nullptr ? direct->zero(count, offset, flags, err)
                           : run({wire::NBD_CMD_WRITE_ZEROES, count, offset, flags}, err);
}

int Next::extents(uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents *extents,
                  int *err) {
  FilterBackend *direct = filter();
  return direct != nullptr
             ? direct->extents(count, offset, flags, extents, err)
             : run({wire::NBD_CMD_BLOCK_STATUS, count, offset, flags, nullptr, extents}, err);
}

int Next::cache(uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  FilterBackend *direct = filter();
  return direct != nullptr ? direct->cache(count, offset, flags, err)
                           : run({wire::NBD_CMD_CACHE, count, offset, flags}, err);
}

} // namespace asyncnbd::cplugin
