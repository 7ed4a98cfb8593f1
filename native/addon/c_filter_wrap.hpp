// NativeCFilter of src/addon/types.ts: one of nbdkit's filters as the start-up code drives it.
#pragma once

#include <memory>
#include <napi.h>

#include "addon/library_wrap.hpp"
#include "cplugin/c_filter.hpp"

namespace asyncnbd::addon {

class CFilterWrap : public LibraryWrap<CFilterWrap, cplugin::CFilter> {
public:
  static Napi::Function define(Napi::Env env);
  explicit CFilterWrap(const Napi::CallbackInfo &info);

  const std::shared_ptr<cplugin::CFilter> &filter() const { return library_; }

private:
  Napi::Value config(const Napi::CallbackInfo &info);
  Napi::Value config_complete(const Napi::CallbackInfo &info);
  Napi::Value settle_thread_model(const Napi::CallbackInfo &info);
  Napi::Value get_ready(const Napi::CallbackInfo &info);
  Napi::Value about(const Napi::CallbackInfo &info);
  Napi::Value sees_clients(const Napi::CallbackInfo &info);
};

} // namespace asyncnbd::addon
