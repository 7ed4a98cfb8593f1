// See server_wrap.hpp.
#include "addon/server_wrap.hpp"

#include "addon/log_wrap.hpp"

namespace asyncnbd::addon {

Napi::Function ServerWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeServer",
                     {
                         InstanceMethod("announceStop", &ServerWrap::announce_stop),
                         InstanceMethod("setRef", &ServerWrap::set_ref),
                         InstanceMethod("release", &ServerWrap::release),
                     });
}

// new NativeServer(onShutdownRequested, maxInFlightBytes, log): the function is called when a
// plugin uses nbdkit_shutdown. log: a NativeLog, or undefined.
ServerWrap::ServerWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  on_shutdown_ =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[0].As<Napi::Function>()));
  // Connections may outlive this object, on threads where no reference may be dropped.
  std::weak_ptr<Napi::FunctionReference> callback = on_shutdown_;
  auto on_shutdown = [queue = JsQueue::of(info.Env()), callback] {
    queue->post([callback](Napi::Env) {
      if (auto function = callback.lock())
        function->Call({});
    });
  };
  context_ = std::make_shared<host::ServerContext>(on_shutdown, LogWrap::target_of(info[2]));
  budget_ = std::make_shared<base::MemoryBudget>(
      static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()));
  hold_ = std::make_shared<LoopHold>(JsQueue::of(info.Env()));
}

Napi::Value ServerWrap::announce_stop(const Napi::CallbackInfo &info) {
  context_->announce_stop();
  return info.Env().Undefined();
}

// setRef(isRef): whether opening what all clients share keeps the event loop alive meanwhile.
Napi::Value ServerWrap::set_ref(const Napi::CallbackInfo &info) {
  hold_->set_ref(info[0].As<Napi::Boolean>());
  return info.Env().Undefined();
}

// The function refers to the object that refers to this one, so the garbage collector would never
// free it.
Napi::Value ServerWrap::release(const Napi::CallbackInfo &info) {
  on_shutdown_.reset();
  context_.reset();
  return info.Env().Undefined();
}

} // namespace asyncnbd::addon
