// See plugin_wrap.hpp.
#include "addon/plugin_wrap.hpp"

#include "addon/own_process.hpp"
#include "addon/runtime.hpp"

namespace asyncnbd::addon {

using backend::CPlugin;

Napi::Value failure_to_js(Napi::Env env, const CPlugin::Failure &failure) {
  if (!failure)
    return env.Undefined();
  Napi::Object object = Napi::Object::New(env);
  object.Set("words", failure->words);
  object.Set("isLogged", failure->is_logged);
  return object;
}

void set_if_any(Napi::Object object, const char *key, const char *text) {
  if (text != nullptr)
    object.Set(key, text);
}

Napi::Function PluginWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativePlugin",
      {
          InstanceMethod("open", &PluginWrap::open),
          InstanceMethod("setDebugFlag", &PluginWrap::set_debug_flag),
          InstanceMethod("load", &PluginWrap::load),
          InstanceMethod("config", &PluginWrap::config),
          InstanceMethod("configComplete", &PluginWrap::run<&CPlugin::config_complete>),
          InstanceMethod("settleThreadModel", &PluginWrap::run<&CPlugin::settle_thread_model>),
          InstanceMethod("getReady", &PluginWrap::run<&CPlugin::get_ready>),
          InstanceMethod("afterFork", &PluginWrap::run<&CPlugin::after_fork>),
          InstanceMethod("dump", &PluginWrap::dump),
          InstanceMethod("cleanup", &PluginWrap::cleanup),
          InstanceMethod("unload", &PluginWrap::unload),
          InstanceAccessor("about", &PluginWrap::about, nullptr),
          InstanceAccessor("threadModel", &PluginWrap::thread_model, nullptr),
          InstanceAccessor("isShutdownRequested", &PluginWrap::is_shutdown_requested, nullptr),
          InstanceAccessor("unansweredRequests", &PluginWrap::unanswered_requests, nullptr),
      });
}

PluginWrap::PluginWrap(const Napi::CallbackInfo &info)
    : ObjectWrap(info),
      plugin_(std::make_shared<CPlugin>(info[0].As<Napi::String>(), resources().of_backends)) {}

Napi::Value PluginWrap::open(const Napi::CallbackInfo &info) {
  share_with_children();
  return failure_to_js(info.Env(), plugin_->open());
}

Napi::Value PluginWrap::set_debug_flag(const Napi::CallbackInfo &info) {
  bool found = plugin_->set_debug_flag(info[0].As<Napi::String>(), info[1].As<Napi::Number>());
  return Napi::Boolean::New(info.Env(), found);
}

Napi::Value PluginWrap::load(const Napi::CallbackInfo &info) {
  plugin_->load();
  return info.Env().Undefined();
}

Napi::Value PluginWrap::config(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(),
                       plugin_->config(info[0].As<Napi::String>(), info[1].As<Napi::String>()));
}

template <CPlugin::Failure (CPlugin::*step)()>
Napi::Value PluginWrap::run(const Napi::CallbackInfo &info) {
  return failure_to_js(info.Env(), (plugin_.get()->*step)());
}

// dump(write, model): `write` gets our lines before the plugin prints its own.
Napi::Value PluginWrap::dump(const Napi::CallbackInfo &info) {
  const auto model = static_cast<backend::ThreadModel>(info[1].As<Napi::Number>().Int32Value());
  info[0].As<Napi::Function>().Call({Napi::String::New(info.Env(), plugin_->describe(model))});
  plugin_->dump_plugin();
  return info.Env().Undefined();
}

// This and unload: on the thread that has loaded the plugin, as in nbdkit, for interpreters are
// bound to theirs. They may wait for the plugin's threads.
Napi::Value PluginWrap::cleanup(const Napi::CallbackInfo &info) {
  plugin_->cleanup();
  return info.Env().Undefined();
}

Napi::Value PluginWrap::unload(const Napi::CallbackInfo &info) {
  plugin_->unload();
  return info.Env().Undefined();
}

Napi::Value PluginWrap::about(const Napi::CallbackInfo &info) {
  const struct nbdkit_plugin &table = plugin_->table();
  Napi::Object about = Napi::Object::New(info.Env());
  about.Set("name", plugin_->name());
  about.Set("path", plugin_->path());
  set_if_any(about, "longname", table.longname);
  set_if_any(about, "version", table.version);
  set_if_any(about, "description", table.description);
  set_if_any(about, "configHelp", table.config_help);
  set_if_any(about, "magicConfigKey", table.magic_config_key);
  return about;
}

Napi::Value PluginWrap::thread_model(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<int>(plugin_->thread_model()));
}

Napi::Value PluginWrap::is_shutdown_requested(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), plugin_->is_shutdown_requested());
}

Napi::Value PluginWrap::unanswered_requests(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), plugin_->unanswered_requests.load());
}

} // namespace asyncnbd::addon
