// See delay.hpp.
#include "filters/delay.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "backend/layer.hpp"
#include "base/invariant.hpp"
#include "base/mutex.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Capabilities;
using backend::Request;
using backend::Reservation;
using std::chrono::milliseconds;

struct Delays {
  // By command.
  std::array<milliseconds, wire::NBD_CMD_BLOCK_STATUS + 1> of_command{};
  milliseconds open{0};
  milliseconds close{0};
  bool refuses_fast_zero = false;

  milliseconds of(uint16_t type) const { return of_command[type]; }
};

class DelayLayer;

// A request until it is passed on. The same object serves one after the other.
struct Waiting final : base::Timer {
  explicit Waiting(DelayLayer &layer) : layer(layer) {}
  void on_due() override;

  DelayLayer &layer;
  Request *request = nullptr;  // none
  Waiting *previous = nullptr; // in the list of those that wait
  Waiting *next = nullptr;     // or of those that are free
};

using WaitingSlabs = base::SlabsOf<Waiting>;

constexpr size_t MAX_FREE = 512; // few clients have more in flight all the time

class DelayLayer final : public backend::Layer {
public:
  DelayLayer(std::unique_ptr<Backend> opened, const Delays &delays,
             const backend::Resources &resources, WaitingSlabs &slabs)
      : Layer(std::move(opened)), delays_(delays), resources_(resources), slabs_(slabs) {
    capabilities_ = below().capabilities();
    if (delays_.refuses_fast_zero && capabilities_.can_write)
      capabilities_.can_fast_zero = true;
  }

  ~DelayLayer() override { trim(); }
  DelayLayer(const DelayLayer &) = delete;
  DelayLayer &operator=(const DelayLayer &) = delete;

  const Capabilities &capabilities() const override { return capabilities_; }
  backend::ThreadModel thread_model() const override { return backend::ThreadModel::async; }

  // What is not delayed passes on as it is.
  Reservation reserve(Request &request) override {
    return is_passed_on(request) ? below().reserve(request) : Reservation{};
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    const uint32_t waiting_bytes = delays_.of(type) > milliseconds(0) ? sizeof(Waiting) : 0;
    return below().bytes_besides(type, length_bytes) + waiting_bytes;
  }

  void submit(Request &request, Caller caller) override;
  void on_client_gone() override;
  void on_server_stopping() override;
  void give_up_unanswered() override;
  void release_idle_memory() override;
  void close() override;

  // Of one whose time has come.
  void pass_on(Waiting &waiting);

private:
  bool is_passed_on(const Request &request) const {
    return delays_.of(request.type) == milliseconds(0) && !is_refused(request);
  }
  bool is_refused(const Request &request) const {
    return delays_.refuses_fast_zero && request.type == wire::NBD_CMD_WRITE_ZEROES &&
           (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
  }

  int begin(Request &request);
  Request *end(Waiting &waiting);
  void put(Waiting &waiting);
  void trim();
  void fail_waiting();

  const Delays &delays_; // the filter's
  const backend::Resources &resources_;
  WaitingSlabs &slabs_;
  Capabilities capabilities_;
  base::Mutex<base::LockRank::delayed> mutex_; // guards the rest
  Waiting *free_ = nullptr;
  size_t free_count_ = 0;
  Waiting *waiting_ = nullptr;
  bool is_over_ = false; // nothing begins to wait any more
  bool client_is_gone_ = false;
};

// Has the request wait. Returns 0 or an error.
int DelayLayer::begin(Request &request) {
  std::lock_guard lock(mutex_);
  if (is_over_)
    return ESHUTDOWN;
  if (free_ == nullptr) {
    free_ = slabs_.make(*this);
    if (free_ == nullptr)
      return ENOMEM;
    free_count_++;
  }
  // With the lock, so that nobody ends what has not begun.
  if (!resources_.timers.set(*free_, resources_.clock.now() + delays_.of(request.type)))
    return EAGAIN;
  Waiting *waiting = std::exchange(free_, free_->next);
  free_count_--;
  waiting->request = &request;
  waiting->previous = nullptr;
  waiting->next = waiting_;
  if (waiting_ != nullptr)
    waiting_->previous = waiting;
  waiting_ = waiting;
  return 0;
}

// With the lock. Whoever gets the request sees to it; nullptr: another thread has got it.
Request *DelayLayer::end(Waiting &waiting) {
  Request *request = std::exchange(waiting.request, nullptr);
  if (request == nullptr)
    return nullptr;
  (waiting.previous == nullptr ? waiting_ : waiting.previous->next) = waiting.next;
  if (waiting.next != nullptr)
    waiting.next->previous = waiting.previous;
  return request;
}

// With the lock. Its timer may still be about to return, and does not look at it any more.
void DelayLayer::put(Waiting &waiting) {
  if (free_count_ == MAX_FREE) {
    WaitingSlabs::destroy(&waiting);
    return;
  }
  waiting.next = std::exchange(free_, &waiting);
  free_count_++;
}

void DelayLayer::trim() {
  std::lock_guard lock(mutex_);
  WaitingSlabs::destroy_chain(std::exchange(free_, nullptr));
  free_count_ = 0;
}

void DelayLayer::release_idle_memory() {
  trim();
  below().release_idle_memory();
}

void DelayLayer::submit(Request &request, Caller caller) {
  if (is_refused(request)) {
    request.complete(ENOTSUP);
    return;
  }
  if (delays_.of(request.type) == milliseconds(0)) {
    // Who is told that answers come later must not be kept by a call.
    below().submit(request, below().thread_model() == backend::ThreadModel::async
                                ? caller
                                : Caller::must_not_block);
    return;
  }
  base::invariant(!request.is_reserved, "a request that will wait has no reservation");
  if (const int error = begin(request))
    request.complete(error);
}

void Waiting::on_due() {
  layer.pass_on(*this);
}

// On the timers' thread. Once the request is below, this layer may be gone.
void DelayLayer::pass_on(Waiting &waiting) {
  Request *request;
  {
    std::lock_guard lock(mutex_);
    request = end(waiting);
    if (request != nullptr)
      put(waiting);
  }
  if (request != nullptr)
    below().submit(*request, Caller::must_not_block);
}

void DelayLayer::fail_waiting() {
  for (;;) {
    Waiting *waiting;
    Request *request;
    {
      std::lock_guard lock(mutex_);
      is_over_ = true;
      waiting = waiting_;
      if (waiting == nullptr)
        return;
      request = end(*waiting);
    }
    // Without the lock, for the timer may be about to take it. It finds no request.
    resources_.timers.cancel(*waiting);
    {
      std::lock_guard lock(mutex_);
      put(*waiting);
    }
    request->complete(ESHUTDOWN);
  }
}

void DelayLayer::on_client_gone() {
  {
    std::lock_guard lock(mutex_);
    client_is_gone_ = true;
  }
  fail_waiting();
  below().on_client_gone();
}

// As nbdkit's, whose nbdkit_nanosleep ends then.
void DelayLayer::on_server_stopping() {
  fail_waiting();
  below().on_server_stopping();
}

void DelayLayer::give_up_unanswered() {
  fail_waiting();
  below().give_up_unanswered();
}

void DelayLayer::close() {
  bool client_is_gone;
  {
    std::lock_guard lock(mutex_);
    client_is_gone = client_is_gone_;
  }
  if (!client_is_gone && delays_.close > milliseconds(0))
    std::this_thread::sleep_for(delays_.close);
  below().close();
}

class DelayFilter final : public backend::Filter {
public:
  DelayFilter(const Delays &delays, const backend::Resources &resources)
      : delays_(delays), resources_(resources) {}

  const char *name() const override { return "delay"; }
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, bool, backend::DiskState *,
                                std::string *) override {
    if (delays_.open > milliseconds(0))
      std::this_thread::sleep_for(delays_.open);
    return std::make_unique<DelayLayer>(std::move(*below), delays_, resources_, slabs_);
  }

private:
  const Delays delays_;
  const backend::Resources resources_;
  WaitingSlabs slabs_;
};

} // namespace

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

} // namespace asyncnbd::filters
