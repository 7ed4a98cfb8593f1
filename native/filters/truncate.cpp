// Changes the size of an export: cuts off its end, or adds a hole.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "backend/sparse.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;
using backend::Support;

bool is_zero(const uint8_t *data, uint64_t length_bytes) {
  return length_bytes == 0 ||
         (data[0] == 0 && std::memcmp(data, data + 1, static_cast<size_t>(length_bytes - 1)) == 0);
}

struct TruncateSettings {
  std::optional<uint64_t> size; // in bytes
  uint64_t round_up;            // 1: no rounding; likewise round_down
  uint64_t round_down;
};

// Requests inside the disk pass unchanged; of a request across its end, only the first part. The
// state that is pushed with such a request is its whole length.
class TruncateLayer final : public EmulatedLayer, private backend::Completer {
public:
  TruncateLayer(std::unique_ptr<Backend> opened, const TruncateSettings &settings)
      : EmulatedLayer(std::move(opened)), settings_(settings) {}

  Reservation reserve(Request &request) override {
    return is_all_there(request) ? below().reserve(request) : Reservation{};
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  void submit(Request &request, Caller caller) override;

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;
  bool is_all_there(const Request &request) const {
    return backend::is_inside(request.offset, request.length_bytes, real_bytes_);
  }
  void submit_start(Request &request, Caller caller);
  int finish(Request &request, uint64_t offset);
  void complete(Request &request, int error) override;
  void give_up(Request &request, int error) override;
  void restore(Request &request);
  void cut_extents(Request &request) const;

  const TruncateSettings settings_;
  uint64_t real_bytes_ = 0; // of the backend below
};

bool TruncateLayer::collect(const backend::Wanted &wanted, backend::Facts *facts,
                            std::string *error) {
  if (!EmulatedLayer::collect(wanted, facts, error))
    return false;
  real_bytes_ = facts->size_bytes;
  uint64_t size_bytes = settings_.size.value_or(real_bytes_);
  size_bytes = (size_bytes + settings_.round_up - 1) & ~(settings_.round_up - 1);
  if (size_bytes > INT64_MAX) {
    *error = "filter truncate: round-up=" + std::to_string(settings_.round_up) +
             " would make the export too large";
    return false;
  }
  facts->size_bytes = size_bytes & ~(settings_.round_down - 1);
  facts->can_extents = true;
  facts->can_fast_zero = facts->zero != Support::none;
  return true;
}

void TruncateLayer::submit(Request &request, Caller caller) {
  const bool is_there = request.offset < real_bytes_;
  const bool cannot_be_fast = request.type == wire::NBD_CMD_WRITE_ZEROES &&
                              (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0 &&
                              !below().facts().can_fast_zero;
  const bool passes = request.type == wire::NBD_CMD_FLUSH ||
                      (request.type != wire::NBD_CMD_BLOCK_STATUS && is_all_there(request));
  if (is_there && cannot_be_fast)
    request.complete(ENOTSUP);
  else if (passes)
    below().submit(request, caller);
  else if (is_there)
    submit_start(request, caller);
  else
    request.complete(finish(request, request.offset));
}

// Submits the part inside the disk. The rest of the request is done in memory when that part is
// answered. So a read must not be answered in pages or with holes, which would cover too little.
void TruncateLayer::submit_start(Request &request, Caller caller) {
  const auto whole = static_cast<uintptr_t>(request.length_bytes);
  if (!request.completers.push(*this, reinterpret_cast<void *>(whole))) {
    request.complete(ENOMEM);
    return;
  }
  request.length_bytes = std::min(request.length_bytes, real_bytes_ - request.offset);
  if (request.type == wire::NBD_CMD_READ) {
    request.may_answer_in_pages = false;
    request.may_have_holes = false;
  }
  below().submit(request, caller);
}

// Does the rest of the request from `offset` on, past the end of the disk below. Returns 0 or an
// errno.
int TruncateLayer::finish(Request &request, uint64_t offset) {
  const uint64_t done_bytes = offset - request.offset;
  const uint64_t rest_bytes = request.length_bytes - done_bytes;
  if (request.type == wire::NBD_CMD_READ) {
    std::memset(request.data + done_bytes, 0, rest_bytes);
  } else if (request.type == wire::NBD_CMD_WRITE &&
             !is_zero(request.data + done_bytes, rest_bytes)) {
    request.make_extras().error_text =
        "filter truncate: only zeroes can be written past the end of the plugin's disk, at " +
        std::to_string(real_bytes_);
    return ENOSPC;
  } else if (request.type == wire::NBD_CMD_BLOCK_STATUS) {
    for (backend::ContextStatus &status : request.extras->statuses)
      status.extents = {
          {facts().size_bytes - request.offset,
           status.context == backend::ContextStatus::ALLOCATION ? backend::HOLE_AND_ZERO : 0}};
  }
  return 0;
}

void TruncateLayer::restore(Request &request) {
  request.length_bytes = reinterpret_cast<uintptr_t>(request.completers.pop(*this));
}

void TruncateLayer::complete(Request &request, int error) {
  const uint64_t end = request.offset + request.length_bytes;
  if (request.type == wire::NBD_CMD_READ)
    request.take_answer(error); // of the first part
  restore(request);
  if (request.type == wire::NBD_CMD_BLOCK_STATUS)
    cut_extents(request);
  else if (error == 0)
    error = finish(request, end);
  request.complete(error);
}

void TruncateLayer::give_up(Request &request, int error) {
  restore(request);
  request.give_up(error);
}

// Clients ask again for the extents of the rest.
void TruncateLayer::cut_extents(Request &request) const {
  const uint64_t end = std::min(real_bytes_, facts().size_bytes);
  for (backend::ContextStatus &status : request.extras->statuses)
    backend::cut_extents(status.extents, end - request.offset);
}

class TruncateFilter final : public backend::Filter {
public:
  TruncateFilter(const TruncateSettings &settings, base::Threads &threads)
      : settings_(settings), threads_(threads) {}

  const char *name() const override { return "truncate"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return emulated(std::make_unique<TruncateLayer>(std::move(*below), settings_), threads_);
  }

private:
  const TruncateSettings settings_;
  base::Threads &threads_;
};

uint64_t power_of_two(OptionReader &reader, const char *name) {
  const uint64_t value = reader.number(name, 1, UINT32_MAX);
  if (value == 0 || (value & (value - 1)) != 0)
    reader.complain(name, "a power of two");
  return value;
}

// Options, in bytes: size, the new size; roundUp and roundDown, powers of two to round the size to.
// nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_truncate(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error) {
  OptionReader reader("truncate", options);
  const auto size = reader.optional_number("size", INT64_MAX);
  const uint64_t round_up = power_of_two(reader, "roundUp");
  const uint64_t round_down = power_of_two(reader, "roundDown");
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<TruncateFilter>(TruncateSettings{size, round_up, round_down},
                                          resources.threads);
}

const Registered registered_truncate("truncate", make_truncate);

} // namespace

} // namespace asyncnbd::filters
