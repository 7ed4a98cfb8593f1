// NativeCFilter of src/addon/types.ts: one of nbdkit's filters as the start-up code drives it.
#pragma once

#include <memory>
#include <napi.h>

#include "cplugin/c_filter.hpp"

namespace asyncnbd::addon {

class CFilterWrap : public Napi::ObjectWrap<CFilterWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit CFilterWrap(const Napi::CallbackInfo &info);

  // Chains share it: the filter must not vanish under a call.
  const std::shared_ptr<cplugin::CFilter> &filter() const { return filter_; }

private:
  Napi::Value open(const Napi::CallbackInfo &info);
  Napi::Value set_debug_flag(const Napi::CallbackInfo &info);
  Napi::Value load(const Napi::CallbackInfo &info);
  Napi::Value config(const Napi::CallbackInfo &info);
  Napi::Value config_complete(const Napi::CallbackInfo &info);
  Napi::Value settle_thread_model(const Napi::CallbackInfo &info);
  Napi::Value get_ready(const Napi::CallbackInfo &info);
  Napi::Value after_fork(const Napi::CallbackInfo &info);
  Napi::Value cleanup(const Napi::CallbackInfo &info);
  Napi::Value unload(const Napi::CallbackInfo &info);
  Napi::Value about(const Napi::CallbackInfo &info);
  Napi::Value sees_clients(const Napi::CallbackInfo &info);
  Napi::Value is_shutdown_requested(const Napi::CallbackInfo &info);
  Napi::Value thread_model(const Napi::CallbackInfo &info);

  std::shared_ptr<cplugin::CFilter> filter_;
};

} // namespace asyncnbd::addon
