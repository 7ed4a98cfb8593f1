// See log.hpp; log_words.cpp has what lines say, log_output.cpp where they go.
#include "filters/log.hpp"

#include <atomic>
#include <cerrno>
#include <functional>
#include <utility>

#include "backend/emulate.hpp"
#include "filters/commands.hpp"
#include "filters/log_output.hpp"
#include "filters/log_words.hpp"
#include "host/context.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Level;
using backend::Request;
using backend::Reservation;
using Kind = LogEvent::Kind;

// One client's. The state of a request is its number.
class LogLayer final : public backend::Layer, private backend::Completer {
public:
  LogLayer(std::unique_ptr<Backend> opened, const backend::Opening &opening, uint64_t number,
           LogOutput &output, base::Threads &threads)
      : Layer(std::move(opened)), context_(opening.context), export_name_(opening.export_name),
        number_(number), output_(output), threads_(threads) {}

  backend::CallLimits call_limits() const override { return AS_IF_BELOW; }

  // A read that is answered ahead would not be seen.
  Reservation reserve(Request &request) override {
    return request.type == wire::NBD_CMD_WRITE ? below().reserve(request) : Reservation{};
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  bool prepare() override;
  bool finalize() override;
  void submit(Request &request, Caller caller) override;
  void close() override;
  void close_unused() override;

private:
  void complete(Request &request, int error) override;
  void give_up(Request &request, int error) override;

  uint64_t pop(Request &request) {
    return reinterpret_cast<uintptr_t>(request.completers.pop(*this));
  }
  void enter(const Request &request, uint64_t id) {
    write({Kind::enter, log_action(request.type), number_, id, log_arguments(request)});
  }
  void leave(const Request &request, uint64_t id, int error) {
    write({Kind::leave, log_action(request.type), number_, id, log_result(request, error)});
  }
  void write(const LogEvent &event) {
    host::ContextScope scope(&context_);
    output_.write(event);
  }
  void say_goodbye();
  void run_elsewhere(const std::function<void()> &task);

  host::CallContext &context_;
  const std::string export_name_;
  const uint64_t number_;
  LogOutput &output_;
  base::Threads &threads_;
  std::atomic<uint64_t> requests_{0}; // pairs with nothing
  bool is_connected_ = false;         // before the first request and after the last
};

bool LogLayer::prepare() {
  if (!below().prepare())
    return false;
  if (is_connected_)
    return true;
  backend::BlockSizes sizes;
  if (!below().block_sizes(&sizes))
    return false;
  is_connected_ = true;
  write({Kind::print, "Connect", number_, 0,
         log_facts(export_name_, context_.tls, below().capabilities(), sizes)});
  return true;
}

void LogLayer::say_goodbye() {
  if (!std::exchange(is_connected_, false))
    return;
  write({Kind::print, "Disconnect", number_, 0, "transactions=" + std::to_string(requests_)});
}

bool LogLayer::finalize() {
  say_goodbye();
  return below().finalize();
}

void LogLayer::close() {
  say_goodbye();
  below().close();
}

void LogLayer::close_unused() {
  say_goodbye();
  below().close_unused();
}

// Who may not wait for a script has others do so.
void LogLayer::run_elsewhere(const std::function<void()> &task) {
  if (!threads_.run(task))
    task(); // better so than never: the system is out of threads
}

void LogLayer::submit(Request &request, Caller caller) {
  const uint64_t id = requests_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (!request.completers.push(*this, reinterpret_cast<void *>(static_cast<uintptr_t>(id)))) {
    if (request.is_reserved)
      below().unreserve(request);
    request.complete(ENOMEM);
    return;
  }
  if (output_.has_script() && caller == Caller::must_not_block) {
    run_elsewhere([this, &request, id] {
      enter(request, id);
      below().submit(request, Caller::must_not_block);
    });
    return;
  }
  enter(request, id);
  below().submit(request, caller);
}

void LogLayer::complete(Request &request, int error) {
  const uint64_t id = pop(request);
  if (!output_.has_script()) {
    leave(request, id, error);
    request.complete(error);
    return;
  }
  if (request.answer.kind == backend::Answer::Kind::borrowed)
    request.take_answer(error); // it is gone when this returns
  run_elsewhere([this, &request, id, error] {
    leave(request, id, error);
    request.complete(error);
  });
}

void LogLayer::give_up(Request &request, int error) {
  leave(request, pop(request), error);
  request.give_up(error);
}

class LogFilter final : public backend::Filter {
public:
  LogFilter(std::unique_ptr<LogOutput> output, base::Threads &threads)
      : output_(std::move(output)), threads_(threads) {}

  const char *name() const override { return "log"; }

  void get_ready(int thread_model) override {
    output_->write({Kind::print, "Ready", 0, 0, "thread_model=" + std::to_string(thread_model)});
  }

  bool preconnect(const Level &behind, bool readonly) override {
    host::ContextScope scope(&behind.bottom->context());
    const uint64_t id = ++preconnects_;
    output_->write({Kind::enter, "Preconnect", 0, id, "readonly=" + std::to_string(readonly)});
    const bool is_welcome = behind.preconnect(readonly);
    output_->write({Kind::leave, "Preconnect", 0, id, log_result(is_welcome ? 0 : EINVAL)});
    return is_welcome;
  }

  std::optional<std::vector<backend::ExportEntry>> list_exports(const Level &behind,
                                                                bool readonly) override {
    host::CallContext &context = behind.bottom->context();
    host::ContextScope scope(&context);
    const uint64_t id = ++lists_;
    output_->write(
        {Kind::enter, "ListExports", 0, id,
         "readonly=" + std::to_string(readonly) + " tls=" + std::to_string(context.tls)});
    auto listed = behind.list_exports(readonly);
    output_->write(
        {Kind::leave, "ListExports", 0, id, listed ? log_exports(*listed) : log_result(EINVAL)});
    return listed;
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    if (!output_->is_active())
      return std::move(*below);
    auto layer =
        std::make_unique<LogLayer>(std::move(*below), opening, ++connections_, *output_, threads_);
    return std::make_unique<backend::Emulation>(std::move(layer), threads_);
  }

private:
  const std::unique_ptr<LogOutput> output_;
  base::Threads &threads_;
  // They pair with nothing.
  std::atomic<uint64_t> preconnects_{0};
  std::atomic<uint64_t> lists_{0};
  std::atomic<uint64_t> connections_{0};
};

} // namespace

std::unique_ptr<backend::Filter> make_log(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error) {
  OptionReader reader("log", options);
  const std::string file = reader.text("file");
  const bool appends = reader.boolean("appends", false);
  const std::string script = reader.text("script");
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  std::unique_ptr<LogOutput> output = LogOutput::open(file, appends, script, error);
  if (output == nullptr)
    return nullptr;
  return std::make_unique<LogFilter>(std::move(output), resources.threads);
}

} // namespace asyncnbd::filters
