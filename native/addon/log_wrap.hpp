// NativeLog of src/addon/types.ts: hands a server's lines to JavaScript.
#pragma once

#include <memory>
#include <napi.h>
#include <vector>

#include "addon/js_queue.hpp"
#include "host/log_target.hpp"

namespace asyncnbd::addon {

class LogWrap : public Napi::ObjectWrap<LogWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit LogWrap(const Napi::CallbackInfo &info);

  // The target of a NativeLog; nullptr for undefined.
  static std::shared_ptr<host::LogTarget> target_of(const Napi::Value &value);

private:
  Napi::Value enter(const Napi::CallbackInfo &info);
  Napi::Value leave(const Napi::CallbackInfo &info);
  Napi::Value drained(const Napi::CallbackInfo &info);

  std::shared_ptr<Napi::FunctionReference> on_line_;
  std::shared_ptr<JsQueue> queue_;
  std::shared_ptr<host::LogTarget> target_;
  std::vector<host::LogTarget *> outer_; // the previous targets of calls in progress
};

} // namespace asyncnbd::addon
