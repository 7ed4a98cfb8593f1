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

// Adds those of src/addon/types.ts that make listening sockets.
void define_listening_functions(Napi::Env env, Napi::Object exports);

} // namespace asyncnbd::addon
