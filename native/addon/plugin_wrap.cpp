// See plugin_wrap.hpp.
#include "addon/plugin_wrap.hpp"

#include "addon/hold_wrap.hpp"
#include "addon/js_queue.hpp"
#include "addon/log_wrap.hpp"
#include "addon/runtime.hpp"
#include "host/log_scope.hpp"

namespace asyncnbd::addon {

using backend::CPlugin;

Napi::Function PluginWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativePlugin",
      with_library_methods({
          InstanceMethod("config", &PluginWrap::config),
          InstanceMethod("configComplete", &PluginWrap::run<&CPlugin::config_complete>),
          InstanceMethod("settleThreadModel", &PluginWrap::run<&CPlugin::settle_thread_model>),
          InstanceMethod("getReady", &PluginWrap::get_ready),
          InstanceMethod("drained", &PluginWrap::drained),
          InstanceMethod("dump", &PluginWrap::dump),
          InstanceAccessor("about", &PluginWrap::about, nullptr),
          InstanceAccessor("unansweredRequests", &PluginWrap::unanswered_requests, nullptr),
      }));
}

PluginWrap::PluginWrap(const Napi::CallbackInfo &info)
    : LibraryWrap(info,
                  std::make_shared<CPlugin>(info[0].As<Napi::String>(), resources().of_backends)) {}

Napi::Value PluginWrap::config(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(),
                       library_->config(info[0].As<Napi::String>(), info[1].As<Napi::String>()));
}

template <CPlugin::Failure (CPlugin::*step)()>
Napi::Value PluginWrap::run(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(), (library_.get()->*step)());
}

// getReady(log, hold): a promise of what has failed. An asynchronous plugin may wait there for what
// it serves, while JavaScript goes on; others are called on the thread that loaded them, as by
// nbdkit.
Napi::Value PluginWrap::get_ready(const Napi::CallbackInfo &info) {
  const auto log = LogWrap::target_of(info[0]);
  const auto failure = std::make_shared<CPlugin::Failure>();
  const auto call = [plugin = library_, log, failure] {
    const host::LogScope scope(log);
    *failure = plugin->get_ready();
  };
  const auto result = [failure](Napi::Env env) { return failure_to_js(env, *failure); };
  if (library_->is_async())
    return promise_blocking(info.Env(), FOR_PLUGIN_CALL, call, result, HoldWrap::hold_of(info[1]));
  call();
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  deferred.Resolve(result(info.Env()));
  return deferred.Promise();
}

// drained(log, hold): a promise.
Napi::Value PluginWrap::drained(const Napi::CallbackInfo &info) {
  if (library_->table().drained == nullptr) // most plugins: no thread for that
    return promise_of_nothing(info.Env());
  return promise_blocking(
      info.Env(), FOR_PLUGIN_CALL,
      [plugin = library_, log = LogWrap::target_of(info[0])] {
        const host::LogScope scope(log);
        plugin->drained();
      },
      undefined, HoldWrap::hold_of(info[1]));
}

// dump(write, model): `write` gets our lines before the plugin prints its own.
Napi::Value PluginWrap::dump(const Napi::CallbackInfo &info) {
  const auto model = static_cast<backend::ThreadModel>(info[1].As<Napi::Number>().Int32Value());
  info[0].As<Napi::Function>().Call({Napi::String::New(info.Env(), library_->describe(model))});
  library_->dump_plugin();
  return info.Env().Undefined();
}

Napi::Value PluginWrap::about(const Napi::CallbackInfo &info) {
  const struct nbdkit_plugin &table = library_->table();
  Napi::Object about = Napi::Object::New(info.Env());
  about.Set("name", library_->name());
  about.Set("path", library_->path());
  set_if_any(about, "longname", table.longname);
  set_if_any(about, "version", table.version);
  set_if_any(about, "description", table.description);
  set_if_any(about, "configHelp", table.config_help);
  set_if_any(about, "magicConfigKey", table.magic_config_key);
  return about;
}

Napi::Value PluginWrap::unanswered_requests(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), library_->unanswered_requests.load());
}

} // namespace asyncnbd::addon
