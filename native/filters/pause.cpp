// Makes requests wait for as long as an operator wants; pause_control.hpp has the socket for that.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "base/invariant.hpp"
#include "base/mutex.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/pause_control.hpp"
#include "filters/registry.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;

// One for all clients: counts the requests in progress, and keeps those that come while it is
// closed.
class Gate final : public Pausable, public std::enable_shared_from_this<Gate> {
public:
  explicit Gate(base::Threads &threads) : threads_(threads) {}

  static constexpr uint32_t BYTES = 2 * sizeof(void *); // of a request that waits

  // False: it waits, and goes on to `below` once it is let in.
  bool enter(Backend &below, Request &request) {
    std::lock_guard lock(mutex_);
    if (is_closed_) {
      waiting_.push_back({&below, &request});
      return false;
    }
    inside_++;
    return true;
  }

  void leave() {
    std::lock_guard lock(mutex_);
    leave_locked(1);
  }

  // Takes out and returns the requests that wait to go on to `below`.
  std::vector<Request *> withdraw(const Backend &below) {
    std::vector<Request *> withdrawn;
    std::lock_guard lock(mutex_);
    take_out(below, &waiting_, &withdrawn);
    const size_t waited = withdrawn.size();
    take_out(below, &let_in_, &withdrawn);
    leave_locked(withdrawn.size() - waited);
    return withdrawn;
  }

  void pause() override {
    host::log_debug("pause: waiting for the requests in progress");
    {
      std::unique_lock lock(mutex_);
      is_closed_ = true;
      while (inside_ > 0 && !is_over_)
        empty_.wait(lock);
    }
    host::log_debug("pause: paused");
  }

  void resume() override;

  void stop() override {
    std::lock_guard lock(mutex_);
    is_over_ = true;
    empty_.notify_all();
  }

private:
  struct Waiting {
    void go_on() const {
      if (request->completers.maker().client_has_gone())
        request->complete(ESHUTDOWN);
      else
        below->submit(*request, Caller::may_block);
    }

    Backend *below;
    Request *request;
  };

  static void take_out(const Backend &below, std::deque<Waiting> *from,
                       std::vector<Request *> *requests) {
    const auto is_its = [&](const Waiting &one) { return one.below == &below; };
    for (const Waiting &one : *from)
      if (is_its(one))
        requests->push_back(one.request);
    from->erase(std::remove_if(from->begin(), from->end(), is_its), from->end());
  }

  void leave_locked(size_t count) {
    base::invariant(count <= inside_, "a request that leaves the gate has entered it");
    inside_ -= count;
    if (inside_ == 0)
      empty_.notify_all();
  }

  void go_on();

  base::Threads &threads_;
  base::Mutex<base::LockRank::pause> mutex_; // guards the rest
  base::Condition empty_;
  bool is_closed_ = false;
  bool is_over_ = false;
  uint64_t inside_ = 0;
  std::deque<Waiting> waiting_;
  std::deque<Waiting> let_in_; // counted as inside, but have not gone on yet
};

void Gate::resume() {
  constexpr size_t MOST_AT_ONCE = 16; // a call may take long
  size_t count;
  {
    std::lock_guard lock(mutex_);
    is_closed_ = false;
    count = waiting_.size();
    let_in_.insert(let_in_.end(), waiting_.begin(), waiting_.end());
    waiting_.clear();
    inside_ += count;
  }
  host::log_debug("pause: %zu requests go on", count);
  for (size_t i = 0; i < std::min(count, MOST_AT_ONCE); i++)
    if (!threads_.run([gate = shared_from_this()] { gate->go_on(); }))
      go_on();
}

// Runs until all that were let in have gone on.
void Gate::go_on() {
  for (;;) {
    Waiting next{};
    {
      std::lock_guard lock(mutex_);
      if (let_in_.empty())
        return;
      next = let_in_.front();
      let_in_.pop_front();
    }
    next.go_on();
  }
}

// A flush passes, as with nbdkit: it changes nothing. Reservations are refused, because what is
// answered at once would not wait.
class PauseLayer final : public EmulatedLayer, private backend::Completer {
public:
  PauseLayer(std::unique_ptr<Backend> opened, std::shared_ptr<Gate> gate)
      : EmulatedLayer(std::move(opened)), gate_(std::move(gate)) {}

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    return below().bytes_besides(type, length_bytes) + Gate::BYTES;
  }

  void submit(Request &request, Caller caller) override {
    if (request.type == wire::NBD_CMD_FLUSH) {
      below().submit(request, caller);
      return;
    }
    if (!request.completers.push(*this))
      refuse(request, ENOMEM);
    else if (gate_->enter(below(), request))
      below().submit(request, caller);
    else if (is_over_)
      fail_waiting();
  }

  void on_client_gone() override {
    fail_waiting();
    below().on_client_gone();
  }
  void on_server_stopping() override {
    fail_waiting();
    below().on_server_stopping();
  }
  void give_up_unanswered() override {
    fail_waiting();
    below().give_up_unanswered();
  }

private:
  // Fails the requests that wait, and those that come later.
  void fail_waiting() {
    is_over_ = true;
    for (Request *request : gate_->withdraw(below())) {
      request->completers.pop(*this);
      request->complete(ESHUTDOWN);
    }
  }

  void complete(Request &request, int error) override {
    request.completers.pop(*this);
    leave();
    request.complete(error);
  }
  void give_up(Request &request, int error) override {
    request.completers.pop(*this);
    leave();
    request.give_up(error);
  }
  void leave() { gate_->leave(); }

  const std::shared_ptr<Gate> gate_;
  // Set before the waiting requests are taken out, and read after one has begun to wait: pairs with
  // the gate's mutex.
  std::atomic<bool> is_over_{false};
};

class PauseFilter final : public backend::Filter {
public:
  PauseFilter(std::shared_ptr<PauseControl> control, base::Threads &threads)
      : control_(std::move(control)), threads_(threads) {}
  ~PauseFilter() override { control_->end(); }

  const char *name() const override { return "pause"; }

  void get_ready(int) override {
    if (!control_->begin(threads_, gate_))
      host::log_error("filter pause: cannot start a thread for the control socket: commands there "
                      "will not be answered");
  }
  void end() override { control_->end(); }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return emulated(std::make_unique<PauseLayer>(std::move(*below), gate_), threads_);
  }

private:
  const std::shared_ptr<PauseControl> control_;
  base::Threads &threads_;
  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>(threads_);
};

// Option: control, the path of a socket that is made for the operator. nullptr, with a message in
// `*error`, for an unknown option, or if the socket cannot be made.
std::unique_ptr<backend::Filter>
make_pause(const FilterOptions &options, const backend::Resources &resources, std::string *error) {
  OptionReader reader("pause", options);
  const std::string path = reader.text("control");
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  std::shared_ptr<PauseControl> control = PauseControl::listen(path, error);
  if (control == nullptr)
    return nullptr;
  return std::make_unique<PauseFilter>(std::move(control), resources.threads);
}

const Registered registered_pause("pause", make_pause);

} // namespace

} // namespace asyncnbd::filters
