// Ends the server when something has happened and all clients have left; exit_events.hpp has the
// events.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <utility>

#include "base/mutex.hpp"
#include "filters/client_count.hpp"
#include "filters/exit_events.hpp"
#include "filters/registry.hpp"
#include "host/abi.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "host/log_scope.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using std::chrono::milliseconds;

// Knows whether it is time to end, and how many clients there are. Looks by itself while there are
// none; a look that takes long, because of a script, may outlive the filter.
class Watch final : public std::enable_shared_from_this<Watch>, private base::Timer {
public:
  Watch(std::unique_ptr<ExitEvents> events, milliseconds interval,
        const backend::Resources &resources)
      : events_(std::move(events)), interval_(interval), resources_(resources) {}

  // Later lines go to the caller's log.
  void begin() {
    log_ = host::current_log();
    look_in(milliseconds(0));
  }
  void end() {
    {
      std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    resources_.timers.cancel(*this);
  }

  // Once true, it stays true. Blocks.
  bool is_time_to_end() {
    if (is_ending_.load())
      return true;
    const std::string what = events_->what_has_happened();
    if (what.empty())
      return false;
    host::log_debug("exitwhen: %s", what.c_str());
    is_ending_.store(true);
    return true;
  }
  bool is_ending() const { return is_ending_.load(); }

  // Called on a thread of its own.
  void look_now() {
    const auto look = [watch = shared_from_this()] {
      const host::LogScope scope(watch->log_);
      watch->end_if_it_is_time();
    };
    if (!resources_.threads.run(look))
      look();
  }

  void client_comes() { clients_++; }
  // True: it was the last client.
  bool client_leaves() { return --clients_ == 0; }

private:
  void on_due() override {
    if (!resources_.threads.run([watch = shared_from_this()] { watch->look(); }))
      look_in(interval_);
  }

  void look() {
    const host::LogScope scope(log_);
    end_if_it_is_time();
    look_in(interval_);
  }

  // A client may have come while scripts ran.
  void end_if_it_is_time() {
    if (clients_ > 0 || !is_time_to_end() || clients_ > 0 || is_over())
      return;
    host::log_debug("exitwhen: the server ends");
    nbdkit_shutdown();
  }

  bool is_over() {
    std::lock_guard lock(mutex_);
    return is_over_;
  }

  // A timer that is set after the end would not be cancelled.
  void look_in(milliseconds time) {
    std::lock_guard lock(mutex_);
    if (!is_over_)
      resources_.timers.set(*this, resources_.clock.now() + time);
  }

  const std::unique_ptr<ExitEvents> events_;
  const milliseconds interval_;
  const backend::Resources &resources_;
  std::shared_ptr<host::LogTarget> log_; // set before there are other threads
  std::atomic<bool> is_ending_{false};
  std::atomic<uint64_t> clients_{0};
  base::Mutex<base::LockRank::exit_watch> mutex_;
  bool is_over_ = false; // guarded by the lock
};

class ExitwhenFilter final : public backend::Filter, public ClientCounter {
public:
  explicit ExitwhenFilter(std::shared_ptr<Watch> watch) : watch_(std::move(watch)) {}

  const char *name() const override { return "exitwhen"; }

  // An event that has already happened ends the server before its first client.
  void get_ready(int) override {
    if (watch_->is_time_to_end())
      nbdkit_shutdown();
    watch_->begin();
  }
  void end() override { watch_->end(); }

  bool preconnect(const backend::Level &behind, bool readonly) override {
    if (!watch_->is_time_to_end())
      return behind.preconnect(readonly);
    host::ContextScope scope(&behind.bottom->context());
    host::log_error("%s", REFUSAL);
    return false;
  }

  // Needed if preconnect was not called.
  bool admits(const backend::Opening &, std::string *error) override {
    if (!watch_->is_ending())
      return true;
    *error = REFUSAL;
    return false;
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    watch_->client_comes();
    return std::make_unique<CountedLayer>(std::move(*below), *this, opening.context);
  }

private:
  static constexpr const char *REFUSAL =
      "filter exitwhen: the client is refused, as the server is about to end";

  // The client must not wait for scripts.
  void on_client_left(host::CallContext &context) override {
    if (watch_->client_leaves() && !context.server->is_stopping())
      watch_->look_now();
  }

  const std::shared_ptr<Watch> watch_;
};

// Options: filesCreated, filesDeleted, pipesClosed, processesExit and scripts, lists as in
// ExitEventNames; pollMs, 60000 by default. nullptr, with a message in `*error`, for an unknown
// option or an invalid value.
std::unique_ptr<backend::Filter> make_exitwhen(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error) {
  constexpr milliseconds LEAST(100); // so that it does not spend all its time on looking
  OptionReader reader("exitwhen", options);
  ExitEventNames names;
  names.files_created = reader.list("filesCreated");
  names.files_deleted = reader.list("filesDeleted");
  names.pipes_closed = reader.list("pipesClosed");
  names.processes_exit = reader.list("processesExit");
  names.scripts = reader.list("scripts");
  const milliseconds interval(reader.number("pollMs", 60'000, uint64_t{UINT32_MAX} * 1000));
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  std::unique_ptr<ExitEvents> events = ExitEvents::open(std::move(names), error);
  if (events == nullptr)
    return nullptr;
  return std::make_unique<ExitwhenFilter>(
      std::make_shared<Watch>(std::move(events), std::max(interval, LEAST), resources));
}

const Registered registered_exitwhen("exitwhen", make_exitwhen);

} // namespace

} // namespace asyncnbd::filters
