// See server_wrap.hpp.
#include "addon/server_wrap.hpp"

#include "addon/js_queue.hpp"

namespace asyncnbd::addon {

Napi::Function ServerWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeServer",
                     {InstanceMethod("announceStop", &ServerWrap::announce_stop)});
}

// new NativeServer(onShutdownRequested): called when a plugin uses nbdkit_shutdown.
ServerWrap::ServerWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  auto callback =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[0].As<Napi::Function>()));
  callback->SuppressDestruct(); // the last copy may be dropped on a thread without JavaScript
  context_ = std::make_shared<host::ServerContext>([queue = JsQueue::of(info.Env()), callback] {
    queue->post([callback](Napi::Env) { callback->Call({}); });
  });
}

Napi::Value ServerWrap::announce_stop(const Napi::CallbackInfo &info) {
  context_->announce_stop();
  return info.Env().Undefined();
}

} // namespace asyncnbd::addon
