// See pause.hpp; pause_control.hpp has the socket.
#include "filters/pause.hpp"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "base/mutex.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/pause_control.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;

// Whose requests wait at the gate.
class Waiter {
public:
  // It has been let in, and is to be left. Not inside a completion; may block.
  virtual void go_on(Request &request) = 0;

protected:
  ~Waiter() = default;
};

// Of all clients: counts the requests that are in progress, and keeps those that come while it is
// closed.
class Gate final : public Pausable {
public:
  explicit Gate(base::Threads &threads) : threads_(threads) {}

  static constexpr uint32_t BYTES = 2 * sizeof(void *); // that a request takes which waits

  // False: it waits.
  bool enter(Waiter &waiter, Request &request) {
    std::lock_guard lock(mutex_);
    if (is_closed_) {
      waiting_.push_back({&waiter, &request});
      return false;
    }
    inside_++;
    return true;
  }

  void leave() {
    std::lock_guard lock(mutex_);
    if (--inside_ == 0)
      empty_.notify_all();
  }

  // Those that wait do so no more.
  std::vector<Request *> withdraw(const Waiter &waiter) {
    std::vector<Request *> withdrawn;
    std::lock_guard lock(mutex_);
    const auto is_its = [&](const Waiting &one) { return one.waiter == &waiter; };
    for (const Waiting &one : waiting_)
      if (is_its(one))
        withdrawn.push_back(one.request);
    waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(), is_its), waiting_.end());
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
    Waiter *waiter;
    Request *request;
  };

  base::Threads &threads_;
  base::Mutex<base::LockRank::pause> mutex_; // guards the rest
  base::Condition empty_;
  bool is_closed_ = false;
  bool is_over_ = false;
  uint64_t inside_ = 0;
  std::deque<Waiting> waiting_;
};

void Gate::resume() {
  std::deque<Waiting> let_in;
  {
    std::lock_guard lock(mutex_);
    is_closed_ = false;
    let_in.swap(waiting_);
    inside_ += let_in.size();
  }
  host::log_debug("pause: %zu requests go on", let_in.size());
  // Each by itself, as a call may take long.
  for (const Waiting &one : let_in)
    if (!threads_.run([one] { one.waiter->go_on(*one.request); }))
      one.waiter->go_on(*one.request);
}

// A flush passes, as with nbdkit: it changes nothing. What is answered at once would not wait, so
// reservations are refused.
class PauseLayer final : public EmulatedLayer, private backend::Completer, private Waiter {
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
    else if (gate_->enter(*this, request))
      below().submit(request, caller);
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
  void go_on(Request &request) override {
    if (request.completers.maker().client_has_gone())
      request.complete(ESHUTDOWN);
    else
      below().submit(request, Caller::may_block);
  }

  void fail_waiting() {
    for (Request *request : gate_->withdraw(*this)) {
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
};

class PauseFilter final : public backend::Filter {
public:
  PauseFilter(std::shared_ptr<PauseControl> control, base::Threads &threads)
      : control_(std::move(control)), threads_(threads) {}
  ~PauseFilter() override { control_->end(); }

  const char *name() const override { return "pause"; }

  void get_ready(int) override {
    if (!control_->begin(threads_, gate_))
      host::log_error("filter pause: the system gives no thread for the control socket, and nobody "
                      "will be answered there");
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

} // namespace

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

} // namespace asyncnbd::filters
