// NativePlugin of src/addon/types.ts: a C plugin as the start-up code drives it.
#pragma once

#include <memory>
#include <napi.h>

#include "backend/c_plugin.hpp"

namespace asyncnbd::addon {

// undefined for success.
Napi::Value failure_to_js(Napi::Env env, const backend::CPlugin::Failure &failure);
void set_if_any(Napi::Object object, const char *key, const char *text);

class PluginWrap : public Napi::ObjectWrap<PluginWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit PluginWrap(const Napi::CallbackInfo &info);

  // Sessions share it: the plugin must not vanish under a call.
  const std::shared_ptr<backend::CPlugin> &plugin() const { return plugin_; }

private:
  using Failure = backend::CPlugin::Failure;

  Napi::Value open(const Napi::CallbackInfo &info);
  Napi::Value set_debug_flag(const Napi::CallbackInfo &info);
  Napi::Value load(const Napi::CallbackInfo &info);
  Napi::Value config(const Napi::CallbackInfo &info);
  template <Failure (backend::CPlugin::*step)()> Napi::Value run(const Napi::CallbackInfo &info);
  Napi::Value dump(const Napi::CallbackInfo &info);
  Napi::Value cleanup(const Napi::CallbackInfo &info);
  Napi::Value unload(const Napi::CallbackInfo &info);
  Napi::Value about(const Napi::CallbackInfo &info);
  Napi::Value thread_model(const Napi::CallbackInfo &info);
  Napi::Value is_shutdown_requested(const Napi::CallbackInfo &info);
  Napi::Value unanswered_requests(const Napi::CallbackInfo &info);

  std::shared_ptr<backend::CPlugin> plugin_;
};

} // namespace asyncnbd::addon
