// JavaScript's event loop as connections of scripts see it: where some of them are led.
#pragma once

#include <functional>
#include <memory>
#include <napi.h>
#include <optional>
#include <uv.h>

#include "addon/fd_poll.hpp"
#include "schedule/loop_poller.hpp"
#include "schedule/spinner.hpp"

namespace asyncnbd::addon {

// JavaScript thread only, but for `wake`.
class ScriptLoop {
public:
  // `on_wake` gives the script its turn, with a handle scope and a callback scope open.
  ScriptLoop(Napi::Env env, std::function<void()> on_wake);
  ~ScriptLoop() { close(); }
  ScriptLoop(const ScriptLoop &) = delete;
  ScriptLoop &operator=(const ScriptLoop &) = delete;

  // For a connection; nullptr if the system has no descriptor for it.
  const std::shared_ptr<schedule::LoopPoller> &poller();
  // Connections are led elsewhere from now on.
  void close();

  // The script has something to do. True: the calling thread serves a connection on that loop, and
  // gives the script its turn right after that. False: it does not, and the loop may be gone. Any
  // thread.
  static bool wake(const ScriptLoop *loop);

private:
  void serve();
  bool is_to_serve_again();
  bool has_event() const;
  bool open();
  bool open_timer();
  void release_quiet();

  const Napi::Env env_;
  const std::function<void()> on_wake_;
  std::shared_ptr<schedule::LoopPoller> poller_;
  int epoll_fd_ = -1; // the poller's
  std::unique_ptr<FdPoll> poll_;
  schedule::Spinner spinner_;
  std::optional<base::Time> serves_since_; // without the loop in between
  bool is_closed_ = false;
  uv_timer_t *timer_ = nullptr; // runs while there are connections; libuv frees it after close
};

} // namespace asyncnbd::addon
