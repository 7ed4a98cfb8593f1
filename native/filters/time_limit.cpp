// Disconnects a client that stays too long.
#include <chrono>
#include <cinttypes>
#include <utility>

#include "backend/layer.hpp"
#include "filters/registry.hpp"
#include "host/client_log.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using std::chrono::milliseconds;

class TimedLayer final : public backend::PassingLayer, private base::Timer {
public:
  TimedLayer(std::unique_ptr<Backend> opened, host::CallContext &context, milliseconds limit,
             const backend::Resources &resources)
      : PassingLayer(std::move(opened)), context_(context), limit_(limit), resources_(resources) {}
  ~TimedLayer() override { resources_.timers.cancel(*this); }

  // False: no thread is available for the timer.
  bool begin() { return resources_.timers.set(*this, resources_.clock.now() + limit_); }

  void close() override {
    resources_.timers.cancel(*this);
    below().close();
  }
  void close_unused() override {
    resources_.timers.cancel(*this);
    below().close_unused();
  }

private:
  // The client's requests in progress fail as if it had left.
  void on_due() override {
    host::ContextScope scope(&context_);
    host::log_error("filter time-limit: the client is disconnected after %" PRId64 " ms: %s",
                    static_cast<int64_t>(limit_.count()), host::peer_of(context_.peer_fd).c_str());
    context_.disconnect(true);
  }

  host::CallContext &context_;
  const milliseconds limit_;
  const backend::Resources &resources_;
};

class TimeLimitFilter final : public backend::Filter {
public:
  TimeLimitFilter(milliseconds limit, const backend::Resources &resources)
      : limit_(limit), resources_(resources) {}

  const char *name() const override { return "time-limit"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *error) override {
    if (limit_ == milliseconds(0))
      return std::move(*below);
    auto layer =
        std::make_unique<TimedLayer>(std::move(*below), opening.context, limit_, resources_);
    if (layer->begin())
      return layer;
    *error = "filter time-limit: cannot start a thread for the timer";
    layer->close_unused();
    return nullptr;
  }

private:
  const milliseconds limit_; // 0: none
  const backend::Resources &resources_;
};

// Option: timeMs, 60000 by default; 0: no limit. nullptr, with a message in `*error`, for an
// unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_time_limit(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error) {
  OptionReader reader("time-limit", options);
  const milliseconds limit(reader.number("timeMs", 60'000, UINT32_MAX));
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<TimeLimitFilter>(limit, resources);
}

const Registered registered_time_limit("time-limit", make_time_limit);

} // namespace

} // namespace asyncnbd::filters
