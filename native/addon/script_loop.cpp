// See script_loop.hpp.
#include "addon/script_loop.hpp"

#include <algorithm>
#include <chrono>
#include <poll.h>
#include <utility>

#include "addon/runtime.hpp"

namespace asyncnbd::addon {

namespace {

// The calling thread gives a connection its turn on this loop.
struct Serving {
  const ScriptLoop *loop = nullptr;
  bool is_woken = false;
};
constinit thread_local Serving serving;

// The loop's timers and other descriptors wait this long at most.
constexpr auto LONGEST_SERVING = std::chrono::milliseconds(1);

} // namespace

ScriptLoop::ScriptLoop(Napi::Env env, std::function<void()> on_wake)
    : env_(env), on_wake_(std::move(on_wake)), spinner_(runtime().clock, runtime().spin_limit, 0) {}

const std::shared_ptr<schedule::LoopPoller> &ScriptLoop::poller() {
  if (poller_ == nullptr && !is_closed_ && !open())
    poller_.reset();
  return poller_;
}

bool ScriptLoop::open() {
  auto epoll = std::make_unique<schedule::EpollPoller>();
  if (!epoll->open() || !open_timer())
    return false;
  epoll_fd_ = epoll->fd();
  poll_ = std::make_unique<FdPoll>(
      env_, epoll_fd_, [this] { serve(); }, [this] { return is_to_serve_again(); });
  poller_ = std::make_shared<schedule::LoopPoller>(runtime().clock, std::move(epoll));
  if (!poll_->ok())
    return false;
  poll_->set_ref(false); // sessions say whether they keep the loop alive
  poll_->start(UV_READABLE);
  return true;
}

bool ScriptLoop::open_timer() {
  uv_loop_t *loop = nullptr;
  if (timer_ != nullptr)
    return true;
  if (napi_get_uv_event_loop(env_, &loop) != napi_ok)
    return false;
  timer_ = new uv_timer_t;
  uv_timer_init(loop, timer_);
  timer_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t *>(timer_));
  return true;
}

void ScriptLoop::close() {
  is_closed_ = true;
  poll_.reset();
  if (timer_ != nullptr)
    uv_close(reinterpret_cast<uv_handle_t *>(std::exchange(timer_, nullptr)),
             [](uv_handle_t *handle) { delete reinterpret_cast<uv_timer_t *>(handle); });
  if (poller_ != nullptr)
    std::exchange(poller_, nullptr)->close();
}

bool ScriptLoop::wake(const ScriptLoop *loop) {
  if (serving.loop != loop)
    return false;
  serving.is_woken = true;
  return true;
}

void ScriptLoop::release_quiet() {
  poller_->release_quiet();
  if (!poller_->has_any())
    uv_timer_stop(timer_);
}

void ScriptLoop::serve() {
  if (!serves_since_)
    serves_since_ = runtime().clock.now();
  serving = {this, false};
  poller_->serve();
  if (poller_->has_any() && !uv_is_active(reinterpret_cast<uv_handle_t *>(timer_)))
    uv_timer_start(
        timer_, [](uv_timer_t *timer) { static_cast<ScriptLoop *>(timer->data)->release_quiet(); },
        schedule::LoopPoller::QUIET_MS, schedule::LoopPoller::QUIET_MS);
  if (std::exchange(serving, {}).is_woken)
    on_wake_();
}

// A client that waits for each of its requests sends the next one at once, and the way through the
// loop takes longer than that.
bool ScriptLoop::is_to_serve_again() {
  using std::chrono::microseconds;
  bool again = false;
  const base::Duration left = *serves_since_ + LONGEST_SERVING - runtime().clock.now();
  if (poller_->has_any() && left.count() > 0) {
    const auto most_us =
        static_cast<unsigned>(std::chrono::duration_cast<microseconds>(left).count());
    spinner_.set_budget(std::min(poller_->spin_us(), most_us));
    again = spinner_.spin([this] { return has_event(); });
  }
  if (!again)
    serves_since_.reset();
  return again;
}

bool ScriptLoop::has_event() const {
  pollfd waited{epoll_fd_, POLLIN, 0};
  return poll(&waited, 1, 0) > 0;
}

} // namespace asyncnbd::addon
