// See c_filter_wrap.hpp.
#include "addon/c_filter_wrap.hpp"

namespace asyncnbd::addon {

using cplugin::CFilter;

Napi::Function CFilterWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeCFilter",
                     with_library_methods({
                         InstanceMethod("config", &CFilterWrap::config),
                         InstanceMethod("configComplete", &CFilterWrap::config_complete),
                         InstanceMethod("settleThreadModel", &CFilterWrap::settle_thread_model),
                         InstanceMethod("getReady", &CFilterWrap::get_ready),
                         InstanceAccessor("about", &CFilterWrap::about, nullptr),
                         InstanceAccessor("seesClients", &CFilterWrap::sees_clients, nullptr),
                     }));
}

CFilterWrap::CFilterWrap(const Napi::CallbackInfo &info)
    : LibraryWrap(info, std::make_shared<CFilter>(info[0].As<Napi::String>())) {}

// config(key, value, next): `next` gets each parameter that the filter passes on, and returns
// whether that has succeeded.
Napi::Value CFilterWrap::config(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  Napi::Function next = info[2].As<Napi::Function>();
  const auto pass_on = [env, next](const char *key, const char *value) {
    return next.Call({Napi::String::New(env, key), Napi::String::New(env, value)})
        .As<Napi::Boolean>()
        .Value();
  };
  return failure_to_js(
      env, library_->config(info[0].As<Napi::String>(), info[1].As<Napi::String>(), pass_on));
}

// configComplete(next): `next` as in config.
Napi::Value CFilterWrap::config_complete(const Napi::CallbackInfo &info) {
  Napi::Function next = info[0].As<Napi::Function>();
  const auto pass_on = [next] { return next.Call({}).As<Napi::Boolean>().Value(); };
  return failure_to_js(info.Env(), library_->config_complete(pass_on));
}

Napi::Value CFilterWrap::settle_thread_model(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(), library_->settle_thread_model(info[0].As<Napi::Number>()));
}

Napi::Value CFilterWrap::get_ready(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(), library_->get_ready(info[0].As<Napi::Number>()));
}

Napi::Value CFilterWrap::about(const Napi::CallbackInfo &info) {
  const nbdkit_filter &table = library_->table();
  Napi::Object about = Napi::Object::New(info.Env());
  about.Set("name", library_->name());
  about.Set("path", library_->path());
  about.Set("version", table._version);
  set_if_any(about, "longname", table.longname);
  set_if_any(about, "description", table.description);
  set_if_any(about, "configHelp", table.config_help);
  return about;
}

Napi::Value CFilterWrap::sees_clients(const Napi::CallbackInfo &info) {
  const nbdkit_filter &table = library_->table();
  const bool sees = table.preconnect != nullptr || table.list_exports != nullptr ||
                    table.default_export != nullptr;
  return Napi::Boolean::New(info.Env(), sees);
}

} // namespace asyncnbd::addon
