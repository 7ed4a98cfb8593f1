// See fd_poll.hpp.
#include "addon/fd_poll.hpp"

namespace asyncnbd::addon {

FdPoll::FdPoll(Napi::Env env, int fd, std::function<void()> on_ready,
               std::function<bool()> is_ready_again)
    : env_(env), on_ready_(std::move(on_ready)), is_ready_again_(std::move(is_ready_again)) {
  uv_loop_t *loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok)
    return;
  handle_ = new uv_poll_t;
  if (const int error = uv_poll_init(loop, handle_, fd); error != 0) {
    ok_ = error == UV_EPERM;
    delete handle_;
    handle_ = nullptr;
    return;
  }
  handle_->data = this;
  ok_ = true;
}

void FdPoll::start(int uv_events) {
  if (handle_ != nullptr)
    uv_poll_start(handle_, uv_events, &FdPoll::on_poll);
}

void FdPoll::stop() {
  if (handle_ != nullptr)
    uv_poll_stop(handle_);
}

void FdPoll::set_ref(bool is_ref) {
  if (handle_ == nullptr)
    return;
  auto *handle = reinterpret_cast<uv_handle_t *>(handle_);
  is_ref ? uv_ref(handle) : uv_unref(handle);
}

void FdPoll::close() {
  if (handle_ == nullptr)
    return;
  handle_->data = nullptr;
  uv_close(reinterpret_cast<uv_handle_t *>(handle_),
           [](uv_handle_t *handle) { delete reinterpret_cast<uv_poll_t *>(handle); });
  handle_ = nullptr;
}

// A callback may close and destroy *self.
void FdPoll::on_poll(uv_poll_t *handle, int, int) {
  const auto self = [handle] { return static_cast<FdPoll *>(handle->data); };
  while (self() != nullptr) {
    self()->call_back();
    if (self() == nullptr || self()->is_ready_again_ == nullptr || !self()->is_ready_again_())
      return;
  }
}

// If there is an error, the next read or write finds it.
void FdPoll::call_back() {
  Napi::HandleScope scope(env_);
  Napi::AsyncContext context(env_, "asyncnbd");
  Napi::CallbackScope callback_scope(env_, context);
  std::function<void()> on_ready = on_ready_; // outlives *this
  on_ready();
}

} // namespace asyncnbd::addon
