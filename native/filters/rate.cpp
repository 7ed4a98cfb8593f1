// Limits reads and writes to a number of bits per second.
#include <array>
#include <chrono>
#include <cinttypes>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include "backend/emulate.hpp"
#include "filters/debug_flags.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/rate_bucket.hpp"
#include "filters/registry.hpp"
#include "filters/waiting.hpp"
#include "host/abi.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;

struct RateSettings {
  uint64_t bits = 0; // a second; 0: no limit
  uint64_t connection_bits = 0;
  std::string file; // "": none
  std::string connection_file;
  double burst_seconds = 2;

  bool limits_any() const {
    return bits != 0 || connection_bits != 0 || !file.empty() || !connection_file.empty();
  }
};

bool is_limited(uint16_t type) {
  return type == wire::NBD_CMD_READ || type == wire::NBD_CMD_WRITE;
}

// For reads and for writes.
struct Buckets {
  Buckets(uint64_t rate, double burst_seconds, const base::Clock &clock)
      : read(rate, burst_seconds, clock), write(rate, burst_seconds, clock) {}
  RateBucket &of(const Request &request) {
    return request.type == wire::NBD_CMD_READ ? read : write;
  }

  RateBucket read;
  RateBucket write;
};

// The first line of a file; "" if there is no file.
std::string first_line(const std::string &path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); // it may be a FIFO
  if (fd == -1)
    return {};
  std::array<char, 64> text; // more than a size takes
  const ssize_t bytes = read(fd, text.data(), text.size());
  close(fd);
  if (bytes <= 0)
    return {};
  const std::string line(text.data(), static_cast<size_t>(bytes));
  return line.substr(0, line.find('\n'));
}

// Runs in the client's context. An invalid rate is logged and changes nothing.
void adjust(const std::string &file, RateBucket &bucket) {
  const std::string line = file.empty() ? "" : first_line(file);
  const int64_t rate = line.empty() ? -1 : nbdkit_parse_size(line.c_str());
  if (rate == -1)
    return;
  const uint64_t before = bucket.set_rate(static_cast<uint64_t>(rate));
  if (before != static_cast<uint64_t>(rate))
    host::log_debug("rate adjusted from %" PRIu64 " to %" PRIi64, before, rate);
}

// A request's progress: it passes the limit of all clients, then its own client's.
struct Progress {
  uint64_t bits_left = 0;
  bool is_past_first = false;
};
using SlowingLayer = WaitingLayer<EmulatedLayer, Progress>;
using SlowRequests = SlowingLayer::Waiting;

class RateLayer final : public SlowingLayer {
public:
  RateLayer(std::unique_ptr<Backend> opened, host::CallContext &context,
            const RateSettings &settings, Buckets &of_all, const backend::Resources &resources,
            SlowRequests::Slabs &slabs)
      : WaitingLayer(std::move(opened), resources, slabs), context_(context), settings_(settings),
        of_all_(of_all), own_(settings.connection_bits, settings.burst_seconds, resources.clock) {}

  Reservation reserve(Request &request) override;

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    return below().bytes_besides(type, length_bytes) + (is_limited(type) ? SlowRequests::BYTES : 0);
  }

  void submit(Request &request, Caller caller) override;

private:
  static Progress begun(const Request &request, bool is_past_first) {
    return {request.length_bytes * 8, is_past_first};
  }
  void on_time(Request &request, Progress progress) override {
    go_on(request, progress, Caller::must_not_block);
  }
  void go_on(Request &request, Progress progress, Caller caller);
  bool has_files() const { return !settings_.file.empty() || !settings_.connection_file.empty(); }
  bool pay_at_once(const Request &request);
  void log_step(const Request &request, const Progress &progress, const BucketStep &step,
                base::Duration wait) const;
  void put_back(const Request &request);

  host::CallContext &context_;
  const RateSettings &settings_; // owned by the filter
  Buckets &of_all_;              // likewise
  Buckets own_;
};

// A request that must wait must not be done in advance. A write is not received in place either:
// its client may leave in the middle, before the write's turn has come.
Reservation RateLayer::reserve(Request &request) {
  if (request.type != wire::NBD_CMD_READ || has_files() || debug::rate_bucket.is_on() ||
      !pay_at_once(request))
    return {};
  const Reservation reservation = below().reserve(request);
  if (reservation.data != nullptr)
    return reservation;
  put_back(request);
  return {};
}

bool RateLayer::pay_at_once(const Request &request) {
  const uint64_t bits = request.length_bytes * 8;
  if (!of_all_.of(request).take_at_once(bits))
    return false;
  if (own_.of(request).take_at_once(bits))
    return true;
  of_all_.of(request).put_back(bits);
  return false;
}

void RateLayer::put_back(const Request &request) {
  of_all_.of(request).put_back(request.length_bytes * 8);
  own_.of(request).put_back(request.length_bytes * 8);
}

void RateLayer::submit(Request &request, Caller caller) {
  if (!is_limited(request.type) || request.is_reserved) { // already paid for
    below().submit(request, caller);
    return;
  }
  {
    host::ContextScope scope(&context_);
    adjust(settings_.file, of_all_.of(request));
    adjust(settings_.connection_file, own_.of(request));
  }
  go_on(request, begun(request, false), caller);
}

void RateLayer::go_on(Request &request, Progress progress, Caller caller) {
  for (;;) {
    RateBucket &bucket = progress.is_past_first ? own_.of(request) : of_all_.of(request);
    base::Duration wait{};
    BucketStep step;
    progress.bits_left = bucket.take(progress.bits_left, &wait, &step);
    if (debug::rate_bucket.is_on() && step.is_limited)
      log_step(request, progress, step, wait);
    if (progress.bits_left > 0) {
      if (const int error = waiting().begin(request, progress, wait))
        request.complete(error);
      return;
    }
    if (progress.is_past_first)
      break;
    progress = begun(request, true);
  }
  below().submit(request, caller);
}

// Called after bits_left has been reduced.
void RateLayer::log_step(const Request &request, const Progress &progress, const BucketStep &step,
                         base::Duration wait) const {
  const host::ContextScope scope(&context_);
  const char *const kind = request.type == wire::NBD_CMD_READ ? "read" : "write";
  const char *const whose = progress.is_past_first ? "per connection" : "global limit";
  host::log_debug("rate: bucket %s (%s): adding %" PRIu64 " tokens, new level %" PRIu64, kind,
                  whose, step.added, step.level);
  if (progress.bits_left == 0)
    host::log_debug("rate: bucket %s (%s): deducting %" PRIu64 " tokens", kind, whose, step.taken);
  else
    host::log_debug("rate: bucket %s (%s): deducting %" PRIu64 " tokens, bucket empty, need "
                    "another %" PRIu64 " tokens, waiting for %.1f seconds",
                    kind, whose, step.taken, progress.bits_left,
                    std::chrono::duration<double>(wait).count());
}

class RateFilter final : public backend::Filter {
public:
  RateFilter(RateSettings settings, const backend::Resources &resources)
      : settings_(std::move(settings)), resources_(resources),
        of_all_(settings_.bits, settings_.burst_seconds, resources.clock) {}

  const char *name() const override { return "rate"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    if (!settings_.limits_any())
      return std::move(*below);
    auto layer = std::make_unique<RateLayer>(std::move(*below), opening.context, settings_, of_all_,
                                             resources_, slabs_);
    return emulated(std::move(layer), resources_.threads);
  }

private:
  const RateSettings settings_;
  const backend::Resources resources_;
  Buckets of_all_;
  SlowRequests::Slabs slabs_;
};

// Options: bits per second for all clients together, and connectionBits for each; 0: no limit.
// Reads and writes are limited separately. file and connectionFile: while such a file exists, its
// first line sets the limit. burstSeconds: after a pause, this much may pass at once. nullptr, with
// a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter>
make_rate(const FilterOptions &options, const backend::Resources &resources, std::string *error) {
  constexpr uint64_t MOST_BITS = uint64_t{1} << 53;
  constexpr double SHORTEST_BURST = 0.001; // with less there would be only waiting
  constexpr double LONGEST_BURST = 1e9;
  OptionReader reader("rate", options);
  RateSettings settings;
  settings.bits = reader.number("bits", 0, MOST_BITS);
  settings.connection_bits = reader.number("connectionBits", 0, MOST_BITS);
  settings.file = reader.text("file");
  settings.connection_file = reader.text("connectionFile");
  settings.burst_seconds =
      reader.real("burstSeconds", settings.burst_seconds, SHORTEST_BURST, LONGEST_BURST);
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<RateFilter>(std::move(settings), resources);
}

const Registered registered_rate("rate", make_rate);

} // namespace

} // namespace asyncnbd::filters
