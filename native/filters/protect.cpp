// Protects parts of an export: a write that would change them fails; protect_ranges.hpp has the
// ranges.
#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "backend/stepped_request.hpp"
#include "filters/debug_flags.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/protect_ranges.hpp"
#include "filters/registry.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;

class ProtectLayer;
class ProtectedWrite;
using ProtectedWrites = backend::SteppedPool<ProtectedWrite, ProtectLayer>;

constexpr uint64_t PIECE_BYTES = 1 << 20; // how much is compared at once

// A request that would write to a protected part: reads the part, and passes on unchanged if it
// does not change it.
class ProtectedWrite final : private backend::SteppedRequest {
public:
  ProtectedWrite(ProtectLayer &layer, ProtectedWrites &pool);

  void begin(Request &request, Caller caller);

private:
  Next advance(int *error) override;
  void on_answered_later() override;
  void recycle() override;

  Next make_next(int *error);
  bool is_same();

  ProtectLayer &layer_;
  ProtectedWrites &pool_;
  std::unique_ptr<uint8_t[]> there_;
  const ProtectedRange *range_ = nullptr; // the range that is being compared
};

class ProtectLayer final : public EmulatedLayer {
public:
  ProtectLayer(std::unique_ptr<Backend> opened, host::CallContext &context,
               const std::vector<ProtectedRange> &ranges, base::Threads &threads)
      : EmulatedLayer(std::move(opened)), context_(context), ranges_(ranges), threads_(threads) {}

  // A write that may be refused must not be on the disk in advance.
  Reservation reserve(Request &request) override {
    return touches(request) ? Reservation{} : below().reserve(request);
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    const uint32_t command_bytes = below().bytes_besides(type, length_bytes);
    if (!wire::is_change(type))
      return command_bytes;
    const uint64_t piece_bytes = std::min(length_bytes, PIECE_BYTES);
    const uint32_t read_bytes = below().bytes_besides(wire::NBD_CMD_READ, piece_bytes);
    return static_cast<uint32_t>(sizeof(ProtectedWrite) + piece_bytes) +
           std::max(command_bytes, read_bytes);
  }

  void submit(Request &request, Caller caller) override {
    if (!touches(request)) {
      if (debug::protect_write.is_on() && wire::is_change(request.type))
        log_part("skipping unprotected", request.offset, request.length_bytes);
      below().submit(request, caller);
      return;
    }
    if (ProtectedWrite *write = writes_.get())
      write->begin(request, caller);
    else
      refuse(request, ENOMEM);
  }

  void release_idle_memory() override {
    writes_.trim();
    below().release_idle_memory();
  }

private:
  friend class ProtectedWrite;

  bool touches(const Request &request) const {
    if (!wire::is_change(request.type) || request.length_bytes == 0)
      return false;
    const ProtectedRange *range = next_protected(ranges_, request.offset);
    return range != nullptr && range->begin < request.offset + request.length_bytes;
  }

  void log_part(const char *what, uint64_t offset, uint64_t length_bytes) const {
    const host::ContextScope scope(&context_);
    if (length_bytes > 0)
      host::log_debug("protect: %s region offset %" PRIu64 " length %" PRIu64, what, offset,
                      length_bytes);
  }

  host::CallContext &context_;
  const std::vector<ProtectedRange> &ranges_; // owned by the filter
  base::Threads &threads_;
  ProtectedWrites writes_{*this};
};

ProtectedWrite::ProtectedWrite(ProtectLayer &layer, ProtectedWrites &pool)
    : SteppedRequest(layer.below()), layer_(layer), pool_(pool) {}

void ProtectedWrite::begin(Request &request, Caller caller) {
  SteppedRequest::begin(request);
  child().offset = request.offset; // nothing has been compared yet
  child().length_bytes = 0;
  int error = 0;
  const Next next = make_next(&error);
  run(next, error, caller);
}

ProtectedWrite::Next ProtectedWrite::make_next(int *error) {
  const uint64_t done = child().offset + child().length_bytes;
  range_ = next_protected(layer_.ranges_, done);
  const uint64_t begin =
      range_ == nullptr ? end_offset() : std::min(std::max(range_->begin, done), end_offset());
  if (debug::protect_write.is_on())
    layer_.log_part("skipping unprotected", done, begin - done);
  if (range_ == nullptr || begin == end_offset())
    return Next::pass_on;
  const uint64_t length_bytes = std::min(std::min(range_->end, end_offset()) - begin, PIECE_BYTES);
  there_.reset(new (std::nothrow) uint8_t[length_bytes]);
  if (!there_) {
    *error = ENOMEM;
    return Next::end;
  }
  if (debug::protect_write.is_on())
    layer_.log_part("checking protected", begin, length_bytes);
  make_child(wire::NBD_CMD_READ, 0, begin, length_bytes, there_.get());
  return Next::child;
}

// Trims and zeroing are compared with zeroes.
bool ProtectedWrite::is_same() {
  const Request &read = child();
  if (request().type == wire::NBD_CMD_WRITE)
    return std::memcmp(there_.get(), request().data + (read.offset - request().offset),
                       read.length_bytes) == 0;
  return there_[0] == 0 && std::memcmp(there_.get(), there_.get() + 1, read.length_bytes - 1) == 0;
}

ProtectedWrite::Next ProtectedWrite::advance(int *error) {
  if (*error != 0)
    return Next::end;
  if (is_same())
    return make_next(error);
  host::ContextScope scope(&layer_.context_);
  host::log_error("filter protect: a write at %" PRIu64 " would change the protected range %s",
                  child().offset, range_->word.c_str());
  request().make_extras().error_text = host::take_error_message();
  *error = EPERM;
  return Next::end;
}

void ProtectedWrite::on_answered_later() {
  const auto go_on = [this](Caller caller) {
    int error = child_error();
    const Next next = advance(&error);
    run(next, error, caller);
  };
  go_on_elsewhere(layer_.threads_, go_on);
}

void ProtectedWrite::recycle() {
  there_.reset();
  pool_.put(*this);
}

class ProtectFilter final : public backend::Filter {
public:
  ProtectFilter(std::vector<ProtectedRange> ranges, base::Threads &threads)
      : ranges_(std::move(ranges)), threads_(threads) {}

  const char *name() const override { return "protect"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    return emulated(
        std::make_unique<ProtectLayer>(std::move(*below), opening.context, ranges_, threads_),
        threads_);
  }

private:
  const std::vector<ProtectedRange> ranges_;
  base::Threads &threads_;
};

// Option: ranges, a list of words as in nbdkit: the first and the last byte as in "0-511", of which
// either may be missing; with "~" in front, everything else. nullptr, with a message in `*error`,
// for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_protect(const FilterOptions &options,
                                              const backend::Resources &resources,
                                              std::string *error) {
  OptionReader reader("protect", options);
  const std::vector<std::string> words = reader.list("ranges");
  *error = reader.error();
  std::vector<ProtectedRange> ranges;
  if (error->empty())
    ranges = protected_ranges(words, error);
  if (!error->empty())
    return nullptr;
  return std::make_unique<ProtectFilter>(std::move(ranges), resources.threads);
}

const Registered registered_protect("protect", make_protect);

} // namespace

} // namespace asyncnbd::filters
