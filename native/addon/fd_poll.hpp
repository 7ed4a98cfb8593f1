// Tells the JavaScript thread's event loop to call back when a descriptor is ready.
#pragma once

#include <functional>
#include <napi.h>
#include <uv.h>

namespace asyncnbd::addon {

// JavaScript thread only. Does not own the descriptor, which must stay open until close.
class FdPoll {
public:
  // `on_ready` runs with a handle scope and a callback scope open. For a file, or /dev/null, it is
  // never called: they are ready always. On failure neither, and ok() is false.
  FdPoll(Napi::Env env, int fd, std::function<void()> on_ready);
  ~FdPoll() { close(); }
  FdPoll(const FdPoll &) = delete;
  FdPoll &operator=(const FdPoll &) = delete;

  bool ok() const { return ok_; }
  // Calls back once for each time the descriptor is found ready, until stop.
  void start(int uv_events);
  void stop();
  // Whether the event loop stays alive for it while it is started, as it does at first.
  void set_ref(bool is_ref);
  // Afterwards the descriptor may be closed or used otherwise.
  void close();

private:
  static void on_poll(uv_poll_t *handle, int status, int events);

  Napi::Env env_;
  std::function<void()> on_ready_;
  bool ok_ = false;
  uv_poll_t *handle_ = nullptr; // libuv frees it after close, in its own time
};

} // namespace asyncnbd::addon
