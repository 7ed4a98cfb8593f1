// Delays requests before they reach the backend below.
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "backend/layer.hpp"
#include "base/invariant.hpp"
#include "filters/registry.hpp"
#include "filters/waiting.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;
using std::chrono::milliseconds;

struct Delays {
  // By command.
  std::array<milliseconds, wire::COMMANDS.size()> of_command{};
  milliseconds open{0};
  milliseconds close{0};
  bool refuses_fast_zero = false;

  milliseconds of(uint16_t type) const { return of_command[type]; }
};

struct Nothing {};
using DelayingLayer = WaitingLayer<backend::Layer, Nothing>;
using DelayedRequests = DelayingLayer::Waiting;

class DelayLayer final : public DelayingLayer {
public:
  DelayLayer(std::unique_ptr<Backend> opened, const Delays &delays,
             const backend::Resources &resources, DelayedRequests::Slabs &slabs)
      : WaitingLayer(std::move(opened), resources, slabs), delays_(delays) {}

  // Requests without a delay pass on unchanged.
  Reservation reserve(Request &request) override {
    return is_passed_on(request) ? below().reserve(request) : Reservation{};
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    const uint32_t waiting_bytes = delays_.of(type) > milliseconds(0) ? DelayedRequests::BYTES : 0;
    return below().bytes_besides(type, length_bytes) + waiting_bytes;
  }

  void submit(Request &request, Caller caller) override;
  void on_client_gone() override {
    client_is_gone_.store(true, std::memory_order_relaxed);
    WaitingLayer::on_client_gone();
  }
  void close() override;

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    if (!WaitingLayer::collect(wanted, facts, error))
      return false;
    facts->can_fast_zero = facts->can_fast_zero || (delays_.refuses_fast_zero && facts->can_write);
    return true;
  }
  bool is_passed_on(const Request &request) const {
    return delays_.of(request.type) == milliseconds(0) && !is_refused(request);
  }
  bool is_refused(const Request &request) const {
    return delays_.refuses_fast_zero && request.type == wire::NBD_CMD_WRITE_ZEROES &&
           (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
  }
  void on_time(Request &request, Nothing) override {
    below().submit(request, Caller::must_not_block);
  }

  const Delays &delays_;                    // owned by the filter
  std::atomic<bool> client_is_gone_{false}; // pairs with nothing: close comes after it
};

void DelayLayer::submit(Request &request, Caller caller) {
  if (is_refused(request)) {
    request.complete(ENOTSUP);
    return;
  }
  if (delays_.of(request.type) == milliseconds(0)) {
    below().submit(request, caller);
    return;
  }
  base::invariant(!request.is_reserved, "a request that will wait has no reservation");
  if (const int error = waiting().begin(request, {}, delays_.of(request.type)))
    request.complete(error);
}

void DelayLayer::close() {
  if (!client_is_gone_.load(std::memory_order_relaxed) && delays_.close > milliseconds(0))
    std::this_thread::sleep_for(delays_.close);
  below().close();
}

class DelayFilter final : public backend::Filter {
public:
  DelayFilter(const Delays &delays, const backend::Resources &resources)
      : delays_(delays), resources_(resources) {}

  const char *name() const override { return "delay"; }
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    if (delays_.open > milliseconds(0))
      std::this_thread::sleep_for(delays_.open);
    return std::make_unique<DelayLayer>(std::move(*below), delays_, resources_, slabs_);
  }

private:
  const Delays delays_;
  const backend::Resources resources_;
  DelayedRequests::Slabs slabs_;
};

// Options: readMs, writeMs, flushMs, trimMs, zeroMs, extentsMs, cacheMs, openMs and closeMs;
// fastZero: whether a fast zero waits like any other (otherwise it is refused at once if zeroing is
// delayed). nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter>
make_delay(const FilterOptions &options, const backend::Resources &resources, std::string *error) {
  constexpr uint64_t MOST_MS = UINT32_MAX; // as nbdkit
  OptionReader reader("delay", options);
  auto read = [&](const char *name) { return milliseconds(reader.number(name, 0, MOST_MS)); };
  Delays delays;
  delays.of_command[wire::NBD_CMD_READ] = read("readMs");
  delays.of_command[wire::NBD_CMD_WRITE] = read("writeMs");
  delays.of_command[wire::NBD_CMD_FLUSH] = read("flushMs");
  delays.of_command[wire::NBD_CMD_TRIM] = read("trimMs");
  delays.of_command[wire::NBD_CMD_WRITE_ZEROES] = read("zeroMs");
  delays.of_command[wire::NBD_CMD_BLOCK_STATUS] = read("extentsMs");
  delays.of_command[wire::NBD_CMD_CACHE] = read("cacheMs");
  delays.open = read("openMs");
  delays.close = read("closeMs");
  delays.refuses_fast_zero =
      !reader.boolean("fastZero", true) && delays.of(wire::NBD_CMD_WRITE_ZEROES) > milliseconds(0);
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<DelayFilter>(delays, resources);
}

const Registered registered_delay("delay", make_delay);

} // namespace

} // namespace asyncnbd::filters
