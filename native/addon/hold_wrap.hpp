// NativeHold of src/addon/types.ts: whether the event loop stays alive for the calls of a plugin
// and its filters that are no client's.
#pragma once

#include <memory>
#include <napi.h>

#include "addon/js_queue.hpp"

namespace asyncnbd::addon {

class HoldWrap : public Napi::ObjectWrap<HoldWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit HoldWrap(const Napi::CallbackInfo &info);

  // nullptr for undefined: calls then have a hold of their own.
  static std::shared_ptr<LoopHold> hold_of(const Napi::Value &value);

private:
  Napi::Value set_ref(const Napi::CallbackInfo &info);

  const std::shared_ptr<LoopHold> hold_;
};

} // namespace asyncnbd::addon
