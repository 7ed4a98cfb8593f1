// See hold_wrap.hpp.
#include "addon/hold_wrap.hpp"

namespace asyncnbd::addon {

Napi::Function HoldWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeHold", {InstanceMethod("setRef", &HoldWrap::set_ref)});
}

HoldWrap::HoldWrap(const Napi::CallbackInfo &info)
    : ObjectWrap(info), hold_(std::make_shared<LoopHold>(JsQueue::of(info.Env()))) {}

std::shared_ptr<LoopHold> HoldWrap::hold_of(const Napi::Value &value) {
  return value.IsObject() ? Unwrap(value.As<Napi::Object>())->hold_ : nullptr;
}

// setRef(isRef)
Napi::Value HoldWrap::set_ref(const Napi::CallbackInfo &info) {
  hold_->set_ref(info[0].As<Napi::Boolean>());
  return info.Env().Undefined();
}

} // namespace asyncnbd::addon
