// Has the JavaScript thread's event loop call back when a descriptor is ready.
#pragma once

#include <functional>
#include <napi.h>
#include <uv.h>

namespace asyncnbd::addon {

// JavaScript thread only. Does not own the descriptor, which must stay open until close.
class FdPoll {
public:
  // `on_ready` runs with a handle scope and a callback scope open. It is never called for a file or
  // /dev/null, which are always ready, nor after a failure, when ok() is false. `is_ready_again`
  // runs without these scopes after each such call, and tells whether to call `on_ready` again at
  // once.
  FdPoll(Napi::Env env, int fd, std::function<void()> on_ready,
         std::function<bool()> is_ready_again = nullptr);
  ~FdPoll() { close(); }
  FdPoll(const FdPoll &) = delete;
  FdPoll &operator=(const FdPoll &) = delete;

  bool ok() const { return ok_; }
  // Calls back once for each time the descriptor is found ready, until stop.
  void start(int uv_events);
  void stop();
  // Whether it keeps the event loop alive while it is started; at first it does.
  void set_ref(bool is_ref);
  // Afterwards the descriptor may be closed or used for something else.
  void close();

private:
  static void on_poll(uv_poll_t *handle, int status, int events);
  void call_back();

  Napi::Env env_;
  std::function<void()> on_ready_;
  std::function<bool()> is_ready_again_;
  bool ok_ = false;
  uv_poll_t *handle_ = nullptr; // libuv frees it some time after close
};

} // namespace asyncnbd::addon
