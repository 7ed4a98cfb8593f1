// NativePlugin of src/addon/types.ts: a C plugin as the start-up code drives it.
#pragma once

#include <memory>
#include <napi.h>

#include "addon/library_wrap.hpp"
#include "backend/c_plugin.hpp"

namespace asyncnbd::addon {

class PluginWrap : public LibraryWrap<PluginWrap, backend::CPlugin> {
public:
  static Napi::Function define(Napi::Env env);
  explicit PluginWrap(const Napi::CallbackInfo &info);

  const std::shared_ptr<backend::CPlugin> &plugin() const { return library_; }

private:
  using Failure = backend::CPlugin::Failure;

  Napi::Value config(const Napi::CallbackInfo &info);
  template <Failure (backend::CPlugin::*step)()> Napi::Value run(const Napi::CallbackInfo &info);
  Napi::Value get_ready(const Napi::CallbackInfo &info);
  Napi::Value drained(const Napi::CallbackInfo &info);
  Napi::Value dump(const Napi::CallbackInfo &info);
  Napi::Value about(const Napi::CallbackInfo &info);
  Napi::Value unanswered_requests(const Napi::CallbackInfo &info);
};

} // namespace asyncnbd::addon
