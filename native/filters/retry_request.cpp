// Tries requests that fail again, a few times, on the same open export.
#include <cerrno>
#include <utility>

#include "filters/emulated_layer.hpp"
#include "filters/registry.hpp"
#include "filters/repeating.hpp"
#include "filters/waiting.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;

// Of a request that waits: how often it has failed, and its last error.
struct FailedTry {
  uint32_t failures = 0;
  int error = 0;
};
using TryingLayer = WaitingLayer<EmulatedLayer, FailedTry>;
using FailedRequests = TryingLayer::Waiting;

// Belongs to one client.
class RetryRequestLayer final : public TryingLayer, private backend::Completer {
public:
  RetryRequestLayer(std::unique_ptr<Backend> opened, host::CallContext &context,
                    const Repetition &repetition, const backend::Resources &resources,
                    FailedRequests::Slabs &slabs)
      : WaitingLayer(std::move(opened), resources, slabs), context_(context),
        repetition_(repetition) {}

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    return below().bytes_besides(type, length_bytes) + FailedRequests::BYTES;
  }

  // A reserved read has succeeded. A reservation for a write can be used only once.
  backend::Reservation reserve(Request &request) override {
    return request.type == wire::NBD_CMD_READ ? below().reserve(request) : backend::Reservation{};
  }

  void submit(Request &request, Caller caller) override {
    if (request.is_reserved)
      below().submit(request, caller);
    else
      try_once(request, 0, caller);
  }

private:
  // The state that is pushed with a request is how often it has failed.
  void try_once(Request &request, uint32_t failures, Caller caller) {
    if (request.completers.push(*this, reinterpret_cast<void *>(uintptr_t{failures})))
      below().submit(request, caller);
    else
      request.complete(ENOMEM);
  }
  uint32_t pop(Request &request) {
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(request.completers.pop(*this)));
  }

  void complete(Request &request, int error) override;
  void give_up(Request &request, int error) override {
    pop(request);
    request.give_up(error);
  }
  void on_time(Request &request, FailedTry failed) override {
    forget_answer(request);
    try_once(request, failed.failures, Caller::must_not_block);
  }
  void on_over(Request &request, FailedTry failed) override { request.complete(failed.error); }

  host::CallContext &context_;
  const Repetition &repetition_; // owned by the filter
};

void RetryRequestLayer::complete(Request &request, int error) {
  const uint32_t failures = pop(request);
  if (error != 0)
    log_failure(context_, request, error, failures, repetition_);
  if (error != 0 && failures < repetition_.retries &&
      waiting().begin(request, {failures + 1, error}, repetition_.delay) == 0)
    return;
  request.complete(error);
}

class RetryRequestFilter final : public backend::Filter {
public:
  RetryRequestFilter(const Repetition &repetition, bool opens, const backend::Resources &resources)
      : repetition_(repetition), opens_(opens), resources_(resources) {}

  const char *name() const override { return "retry-request"; }

  std::unique_ptr<Backend> open_behind(const backend::OpenBehind &open,
                                       const backend::Opening &opening, bool readonly,
                                       std::string *error) override {
    if (!opens_)
      return open(readonly, error);
    const auto open_once = [&](uint32_t, std::string *words) { return open(readonly, words); };
    return open_repeatedly(open_once, repetition_, opening.context, error);
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    auto layer = std::make_unique<RetryRequestLayer>(std::move(*below), opening.context,
                                                     repetition_, resources_, slabs_);
    return emulated(std::move(layer), resources_.threads);
  }

private:
  const Repetition repetition_;
  const bool opens_;
  const backend::Resources resources_;
  FailedRequests::Slabs slabs_;
};

// Options: retries, after the first try; delayMs, before each; opens: whether opening is tried
// again, too. nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_retry_request(const FilterOptions &options,
                                                    const backend::Resources &resources,
                                                    std::string *error) {
  constexpr uint64_t DEFAULT_RETRIES = 2;
  constexpr uint64_t MOST_RETRIES = 1000; // as nbdkit
  constexpr uint64_t DEFAULT_MS = 2000;
  OptionReader reader("retry-request", options);
  Repetition repetition;
  repetition.retries =
      static_cast<uint32_t>(reader.number("retries", DEFAULT_RETRIES, MOST_RETRIES));
  repetition.delay =
      std::chrono::milliseconds(reader.number("delayMs", DEFAULT_MS, MAX_REPETITION_MS));
  const bool opens = reader.boolean("opens", true);
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<RetryRequestFilter>(repetition, opens, resources);
}

const Registered registered_retry_request("retry-request", make_retry_request);

} // namespace

} // namespace asyncnbd::filters
