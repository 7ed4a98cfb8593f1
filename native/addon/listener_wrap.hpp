// NativeListener of src/addon/types.ts: a listening socket whose clients go to JavaScript.
#pragma once

#include <memory>
#include <napi.h>

#include "addon/fd_poll.hpp"

namespace asyncnbd::addon {

class ListenerWrap : public Napi::ObjectWrap<ListenerWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit ListenerWrap(const Napi::CallbackInfo &info);

private:
  void accept_waiting();
  Napi::Value resume(const Napi::CallbackInfo &info);
  Napi::Value pause(const Napi::CallbackInfo &info);
  Napi::Value close(const Napi::CallbackInfo &info);
  Napi::Value set_ref(const Napi::CallbackInfo &info);

  int fd_;
  bool accepting_ = false;
  Napi::FunctionReference on_client_;
  std::unique_ptr<FdPoll> poll_;
};

// listenTcp(host, port, family), listenUnix(path), listenVsock(port): { fds, port } or { error }.
Napi::Value listen_tcp(const Napi::CallbackInfo &info);
Napi::Value listen_unix(const Napi::CallbackInfo &info);
Napi::Value listen_vsock(const Napi::CallbackInfo &info);
Napi::Value adopt_listeners(const Napi::CallbackInfo &info);

} // namespace asyncnbd::addon
