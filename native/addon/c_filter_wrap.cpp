// See c_filter_wrap.hpp.
#include "addon/c_filter_wrap.hpp"

#include "addon/own_process.hpp"
#include "addon/plugin_wrap.hpp"

namespace asyncnbd::addon {

using cplugin::CFilter;

Napi::Function CFilterWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativeCFilter",
      {
          InstanceMethod("open", &CFilterWrap::open),
          InstanceMethod("setDebugFlag", &CFilterWrap::set_debug_flag),
          InstanceMethod("load", &CFilterWrap::load),
          InstanceMethod("config", &CFilterWrap::config),
          InstanceMethod("configComplete", &CFilterWrap::config_complete),
          InstanceMethod("settleThreadModel", &CFilterWrap::settle_thread_model),
          InstanceMethod("getReady", &CFilterWrap::get_ready),
          InstanceMethod("afterFork", &CFilterWrap::after_fork),
          InstanceMethod("cleanup", &CFilterWrap::cleanup),
          InstanceMethod("unload", &CFilterWrap::unload),
          InstanceAccessor("about", &CFilterWrap::about, nullptr),
          InstanceAccessor("seesClients", &CFilterWrap::sees_clients, nullptr),
          InstanceAccessor("isShutdownRequested", &CFilterWrap::is_shutdown_requested, nullptr),
          InstanceAccessor("threadModel", &CFilterWrap::thread_model, nullptr),
      });
}

CFilterWrap::CFilterWrap(const Napi::CallbackInfo &info)
    : ObjectWrap(info), filter_(std::make_shared<CFilter>(info[0].As<Napi::String>())) {}

Napi::Value CFilterWrap::open(const Napi::CallbackInfo &info) {
  share_with_children();
  return failure_to_js(info.Env(), filter_->open());
}

Napi::Value CFilterWrap::set_debug_flag(const Napi::CallbackInfo &info) {
  const bool found =
      filter_->set_debug_flag(info[0].As<Napi::String>(), info[1].As<Napi::Number>());
  return Napi::Boolean::New(info.Env(), found);
}

Napi::Value CFilterWrap::load(const Napi::CallbackInfo &info) {
  filter_->load();
  return info.Env().Undefined();
}

// config(key, value, next): `next` gets what the filter passes on, and returns whether that has
// gone well.
Napi::Value CFilterWrap::config(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  Napi::Function next = info[2].As<Napi::Function>();
  const auto pass_on = [env, next](const char *key, const char *value) {
    return next.Call({Napi::String::New(env, key), Napi::String::New(env, value)})
        .As<Napi::Boolean>()
        .Value();
  };
  return failure_to_js(
      env, filter_->config(info[0].As<Napi::String>(), info[1].As<Napi::String>(), pass_on));
}

// configComplete(next): as config's.
Napi::Value CFilterWrap::config_complete(const Napi::CallbackInfo &info) {
  Napi::Function next = info[0].As<Napi::Function>();
  const auto pass_on = [next] { return next.Call({}).As<Napi::Boolean>().Value(); };
  return failure_to_js(info.Env(), filter_->config_complete(pass_on));
}

Napi::Value CFilterWrap::settle_thread_model(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(), filter_->settle_thread_model(info[0].As<Napi::Number>()));
}

Napi::Value CFilterWrap::get_ready(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(), filter_->get_ready(info[0].As<Napi::Number>()));
}

Napi::Value CFilterWrap::after_fork(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(), filter_->after_fork());
}

Napi::Value CFilterWrap::cleanup(const Napi::CallbackInfo &info) {
  filter_->cleanup();
  return info.Env().Undefined();
}

Napi::Value CFilterWrap::unload(const Napi::CallbackInfo &info) {
  filter_->unload();
  return info.Env().Undefined();
}

Napi::Value CFilterWrap::about(const Napi::CallbackInfo &info) {
  const nbdkit_filter &table = filter_->table();
  Napi::Object about = Napi::Object::New(info.Env());
  about.Set("name", filter_->name());
  about.Set("path", filter_->path());
  about.Set("version", table._version);
  set_if_any(about, "longname", table.longname);
  set_if_any(about, "description", table.description);
  set_if_any(about, "configHelp", table.config_help);
  return about;
}

Napi::Value CFilterWrap::sees_clients(const Napi::CallbackInfo &info) {
  const nbdkit_filter &table = filter_->table();
  const bool sees = table.preconnect != nullptr || table.list_exports != nullptr ||
                    table.default_export != nullptr;
  return Napi::Boolean::New(info.Env(), sees);
}

Napi::Value CFilterWrap::is_shutdown_requested(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), filter_->is_shutdown_requested());
}

Napi::Value CFilterWrap::thread_model(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<int>(filter_->thread_model()));
}

} // namespace asyncnbd::addon
