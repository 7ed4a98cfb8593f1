// Logs what clients do, to a file in nbdkit's format, or through a script; log_words.cpp makes the
// text of lines, log_queue.cpp chooses the thread that writes them, log_output.cpp writes them.
#include <atomic>
#include <cerrno>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "backend/emulate.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/log_queue.hpp"
#include "filters/log_words.hpp"
#include "filters/registry.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Level;
using backend::Request;
using backend::Reservation;
using EventKind = LogEvent::Kind;

// A request whose line is not written yet. The thread that takes `request` continues it.
struct WaitingRequest {
  Request *take() { return request.exchange(nullptr, std::memory_order_acq_rel); }

  std::atomic<Request *> request; // nullptr: already taken
  const uint64_t id;
  const std::optional<int> error; // its answer; none: it goes on below
};

// The end of a client, which waits for its last line. The first caller of end ends it.
struct Ending {
  std::promise<std::string> failure;
  std::atomic<bool> is_over{false};

  void end(const std::string &why) {
    if (!is_over.exchange(true))
      failure.set_value(why);
  }
};

// The line about a client that connects shows them.
backend::Wanted with_block_sizes(backend::Wanted wanted) {
  wanted.block_sizes = true;
  return wanted;
}

// Belongs to one client. The state that is pushed with a request is its number.
class LogLayer final : public EmulatedLayer, private backend::Completer {
public:
  LogLayer(std::unique_ptr<Backend> opened, const backend::Opening &opening, uint64_t number,
           LogQueue &lines)
      : EmulatedLayer(std::move(opened)), context_(opening.context),
        export_name_(opening.export_name), number_(number), lines_(lines) {}

  // A read that is answered in advance would not be logged, and a write that waits for its line may
  // fail.
  Reservation reserve(Request &request) override {
    const bool passes = request.type == wire::NBD_CMD_WRITE && !lines_.is_slow();
    return passes ? below().reserve(request) : Reservation{};
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    constexpr uint32_t LINE_BYTES = 1024;
    return below().bytes_besides(type, length_bytes) + (lines_.is_slow() ? LINE_BYTES : 0);
  }

  bool finalize() override;
  void submit(Request &request, Caller caller) override;
  void give_up_unanswered() override;
  void close() override;
  void close_unused() override;

private:
  using Waiting = std::shared_ptr<WaitingRequest>;

  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;
  void complete(Request &request, int error) override;
  void give_up(Request &request, int error) override;

  uint64_t pop(Request &request) {
    return reinterpret_cast<uintptr_t>(request.completers.pop(*this));
  }
  LogEvent enter(const Request &request, uint64_t id) const {
    return {EventKind::enter, log_action(request.type), number_, id, log_arguments(request)};
  }
  LogEvent leave(const Request &request, uint64_t id, int error) const {
    return {EventKind::leave, log_action(request.type), number_, id, log_result(request, error)};
  }
  void write(LogEvent event) {
    host::ContextScope scope(&context_);
    lines_.write(std::move(event));
  }
  std::optional<LogEvent> goodbye();
  void write_goodbye();
  void wait_for_line(LogEvent event, Request &request, uint64_t id, std::optional<int> error);
  void go_on(WaitingRequest &waiting, Request &request, const std::string &failure);

  host::CallContext &context_;
  const std::string export_name_;
  const uint64_t number_;
  LogQueue &lines_;
  std::atomic<uint64_t> requests_{0};              // pairs with nothing
  bool is_connected_ = false;                      // before the first request and after the last
  base::Mutex<base::LockRank::log_waiting> mutex_; // guards what follows
  std::set<Waiting> waiting_;
  bool is_given_up_ = false;
  std::shared_ptr<Ending> ending_; // while someone waits for it
};

bool LogLayer::collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) {
  if (!EmulatedLayer::collect(with_block_sizes(wanted), facts, error) || !facts->block_sizes)
    return false;
  if (lines_.is_slow())
    facts->thread_model = backend::ThreadModel::async;
  is_connected_ = true;
  write({EventKind::print, "Connect", number_, 0, log_facts(export_name_, context_.tls, *facts)});
  return true;
}

// The last line; only once.
std::optional<LogEvent> LogLayer::goodbye() {
  if (!std::exchange(is_connected_, false))
    return std::nullopt;
  return LogEvent{EventKind::print, "Disconnect", number_, 0,
                  "transactions=" + std::to_string(requests_)};
}

// Waits until it is written or given up: a script or a pipe may hang for ever.
void LogLayer::write_goodbye() {
  std::optional<LogEvent> event = goodbye();
  if (!event)
    return;
  if (!lines_.is_slow()) {
    write(std::move(*event));
    return;
  }
  const auto ending = std::make_shared<Ending>();
  {
    std::lock_guard lock(mutex_);
    ending_ = ending;
    if (is_given_up_)
      ending->end({});
  }
  lines_.add(std::move(*event), [ending](const std::string &failure) { ending->end(failure); });
  const std::string failure = ending->failure.get_future().get();
  if (!failure.empty())
    host::log_error("%s", failure.c_str());
}

bool LogLayer::finalize() {
  write_goodbye();
  return below().finalize();
}

void LogLayer::close() {
  write_goodbye();
  below().close();
}

void LogLayer::close_unused() {
  if (auto event = goodbye()) {
    if (lines_.is_slow())
      lines_.add_unawaited(std::move(*event));
    else
      write(std::move(*event));
  }
  below().close_unused();
}

void LogLayer::submit(Request &request, Caller caller) {
  const uint64_t id = requests_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (!request.completers.push(*this, reinterpret_cast<void *>(static_cast<uintptr_t>(id)))) {
    refuse(request, ENOMEM);
    return;
  }
  if (lines_.is_slow()) {
    wait_for_line(enter(request, id), request, id, std::nullopt);
    return;
  }
  write(enter(request, id));
  below().submit(request, caller);
}

void LogLayer::complete(Request &request, int error) {
  const uint64_t id = pop(request);
  if (!lines_.is_slow()) {
    write(leave(request, id, error));
    request.complete(error);
    return;
  }
  if (request.answer.kind == backend::Answer::Kind::borrowed)
    request.take_answer(error); // the answer is gone after this returns
  wait_for_line(leave(request, id, error), request, id, error);
}

// A request that is given up does not wait for its line.
void LogLayer::give_up(Request &request, int error) {
  LogEvent event = leave(request, pop(request), error);
  if (lines_.is_slow())
    lines_.add_unawaited(std::move(event));
  else
    write(std::move(event));
  request.give_up(error);
}

// ---- requests that wait for their lines ---------------------------------------------------------

// Until the request is taken, it is outstanding, so the layer exists. Another thread may take it as
// soon as it is in the set.
void LogLayer::wait_for_line(LogEvent event, Request &request, uint64_t id,
                             std::optional<int> error) {
  LogQueue &lines = lines_;
  auto waiting = Waiting(new WaitingRequest{{&request}, id, error});
  {
    std::lock_guard lock(mutex_);
    waiting_.insert(waiting);
  }
  lines.add(std::move(event), [this, waiting](const std::string &failure) {
    Request *taken = waiting->take();
    if (taken == nullptr)
      return;
    {
      std::lock_guard lock(mutex_);
      waiting_.erase(waiting);
    }
    go_on(*waiting, *taken, failure);
  });
}

void LogLayer::go_on(WaitingRequest &waiting, Request &request, const std::string &failure) {
  if (!failure.empty()) {
    host::ContextScope scope(&context_);
    host::log_error("%s", failure.c_str());
  }
  if (waiting.error)
    request.complete(*waiting.error);
  else
    below().submit(request, Caller::must_not_block);
}

void LogLayer::give_up_unanswered() {
  std::set<Waiting> all;
  {
    std::lock_guard lock(mutex_);
    all.swap(waiting_);
    is_given_up_ = true;
    if (ending_)
      ending_->end({});
  }
  for (const Waiting &waiting : all) {
    Request *request = waiting->take();
    if (request == nullptr)
      continue;
    if (waiting->error) {
      request->complete(*waiting->error);
      continue;
    }
    pop(*request);
    lines_.add_unawaited(leave(*request, waiting->id, ESHUTDOWN));
    refuse(*request, ESHUTDOWN);
  }
  below().give_up_unanswered();
}

class LogFilter final : public backend::Filter {
public:
  LogFilter(std::unique_ptr<LogOutput> output, base::Threads &threads)
      : lines_(std::make_shared<LogQueue>(std::move(output), threads)), threads_(threads) {}

  const char *name() const override { return "log"; }
  backend::Wanted wanted_of_below(const backend::Wanted &wanted) const override {
    return lines_->is_active() ? with_block_sizes(wanted) : wanted;
  }

  void get_ready(int thread_model) override {
    lines_->write(
        {EventKind::print, "Ready", 0, 0, "thread_model=" + std::to_string(thread_model)});
  }

  bool preconnect(const Level &behind, bool readonly) override {
    host::ContextScope scope(&behind.bottom->context());
    const uint64_t id = ++preconnects_;
    lines_->write({EventKind::enter, "Preconnect", 0, id, "readonly=" + std::to_string(readonly)});
    const bool is_welcome = behind.preconnect(readonly);
    lines_->write({EventKind::leave, "Preconnect", 0, id, log_result(is_welcome ? 0 : EINVAL)});
    return is_welcome;
  }

  std::optional<std::vector<backend::ExportEntry>> list_exports(const Level &behind,
                                                                bool readonly) override {
    host::CallContext &context = behind.bottom->context();
    host::ContextScope scope(&context);
    const uint64_t id = ++lists_;
    lines_->write({EventKind::enter, "ListExports", 0, id,
                   "readonly=" + std::to_string(readonly) + " tls=" + std::to_string(context.tls)});
    auto listed = behind.list_exports(readonly);
    lines_->write({EventKind::leave, "ListExports", 0, id,
                   listed ? log_exports(*listed) : log_result(EINVAL)});
    return listed;
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    if (!lines_->is_active())
      return std::move(*below);
    auto layer = std::make_unique<LogLayer>(std::move(*below), opening, ++connections_, *lines_);
    return emulated(std::move(layer), threads_);
  }

private:
  const std::shared_ptr<LogQueue> lines_;
  base::Threads &threads_;
  // Counts, which pair with nothing.
  std::atomic<uint64_t> preconnects_{0};
  std::atomic<uint64_t> lists_{0};
  std::atomic<uint64_t> connections_{0};
};

// Options: file, its path; appends: to the file, instead of replacing it; script: shell commands
// that are run for each line. Without file and script nothing is written. nullptr, with a message
// in `*error`, for an unknown option or an invalid value, or if the file cannot be opened.
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

const Registered registered_log("log", make_log);

} // namespace

} // namespace asyncnbd::filters
