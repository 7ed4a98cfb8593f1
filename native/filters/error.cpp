// Makes requests fail, sometimes or always, before they reach the backend below: to test clients.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <unistd.h>
#include <utility>

#include "backend/emulate.hpp"
#include "base/error_numbers.hpp"
#include "base/invariant.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/registry.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Request;
using backend::Reservation;

// Which error to inject into requests of one kind.
struct Injection {
  int error = EIO;
  double rate = 0;
  std::string file; // "": always
};

using Injections = std::array<Injection, wire::COMMANDS.size()>; // by command

// Random-looking numbers of 32 bits; any thread.
class Dice {
public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  // Steele, Lea and Flood's SplitMix64.
  uint32_t throw_once() {
    constexpr uint64_t STEP = 0x9e3779b97f4a7c15;
    uint64_t number = state_.fetch_add(STEP, std::memory_order_relaxed) + STEP;
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
    number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
    return static_cast<uint32_t>(number ^ (number >> 31));
  }

private:
  std::atomic<uint64_t> state_; // pairs with nothing
};

class ErrorLayer final : public EmulatedLayer {
public:
  ErrorLayer(std::unique_ptr<Backend> opened, host::CallContext &context,
             const Injections &injections, Dice &dice)
      : EmulatedLayer(std::move(opened)), context_(context), injections_(injections), dice_(dice) {}

  // A request that may fail must not be done in advance.
  Reservation reserve(Request &request) override {
    return injections_[request.type].rate > 0 ? Reservation{} : below().reserve(request);
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  void submit(Request &request, backend::Caller caller) override {
    const Injection &injection = injections_[request.type];
    if (injection.rate > 0 && is_due(injection))
      fail(request, injection.error);
    else
      below().submit(request, caller);
  }

private:
  bool is_due(const Injection &injection) {
    if (!injection.file.empty() && access(injection.file.c_str(), F_OK) == -1)
      return false;
    return injection.rate >= 1 || dice_.throw_once() < injection.rate * UINT32_MAX;
  }

  void fail(Request &request, int error) {
    base::invariant(!request.is_reserved, "a request that may fail has no reservation");
    {
      host::ContextScope scope(&context_);
      host::log_error("injecting %s error into %s", base::error_name(error).c_str(),
                      wire::callback_name(request.type));
      request.make_extras().error_text = host::take_error_message();
    }
    request.complete(error);
  }

  host::CallContext &context_;
  const Injections &injections_; // owned by the filter, as are the dice
  Dice &dice_;
};

class ErrorFilter final : public backend::Filter {
public:
  ErrorFilter(Injections injections, base::Threads &threads)
      : injections_(std::move(injections)), threads_(threads),
        dice_(static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count())) {}

  const char *name() const override { return "error"; }

  // No layer if nothing can fail.
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    const bool is_active =
        std::any_of(injections_.begin(), injections_.end(),
                    [](const Injection &injection) { return injection.rate > 0; });
    if (!is_active)
      return std::move(*below);
    auto layer =
        std::make_unique<ErrorLayer>(std::move(*below), opening.context, injections_, dice_);
    return emulated(std::move(layer), threads_);
  }

private:
  const Injections injections_;
  base::Threads &threads_;
  Dice dice_;
};

// Options, for each of pread, pwrite, flush, trim, cache, zero and extents, as in preadCode: …Code,
// the name of an error, by default EIO; …Rate, the share that fails, from 0 (by default) to 1;
// …File: they fail only while this file exists. nullptr, with a message in `*error`, for an unknown
// option or an invalid value.
std::unique_ptr<backend::Filter>
make_error(const FilterOptions &options, const backend::Resources &resources, std::string *error) {
  OptionReader reader("error", options);
  Injections injections;
  for (size_t type = 0; type < injections.size(); type++) {
    const std::string kind = wire::callback_name(static_cast<uint16_t>(type));
    if (kind.empty())
      continue;
    Injection &injection = injections[type];
    injection.error = reader.error_number((kind + "Code").c_str(), EIO);
    injection.rate = reader.real((kind + "Rate").c_str(), 0, 0, 1);
    injection.file = reader.text((kind + "File").c_str());
  }
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<ErrorFilter>(std::move(injections), resources.threads);
}

const Registered registered_error("error", make_error);

} // namespace

} // namespace asyncnbd::filters
